"""`evaluate.py fit-extractor` and `evaluate.py reference`: made once, used by every evaluation."""

from __future__ import annotations

from unite.config.schema import ImagesConfig
from unite.domains.columns import IMAGES
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import DataArguments, FitArguments, ReferenceArguments
from unite.evaluation.dataset import Dataset, data_folder
from unite.evaluation.finished import record_of, settle
from unite.evaluation.images.fitting import FitTask, default_options
from unite.evaluation.images.preparation import Extractors, check_reference
from unite.evaluation.images.reading import images_of
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.small import SmallExtractor
from unite.evaluation.images.small_card import FitOptions
from unite.evaluation.suite import work_items
from unite.metrics.errors import MetricError
from unite.storage import Store
from unite.words import count


def fit_extractor(arguments: FitArguments, storage: str) -> SmallExtractor:
    """Fit a small extractor on a data set's labels, unless it is there already."""
    data, images, storage = _open(arguments, storage)
    options = FitOptions(images=arguments.images) if arguments.images else None
    task = FitTask.of(
        data,
        images,
        storage,
        name=arguments.name,
        out=arguments.out,
        seed=arguments.seed,
        options=options or default_options(data.num_rows, images),
    )
    _check_place(task.out)
    with kept(record_of(settle(arguments, storage))) as whole:
        print(task.title)
        with session(arguments) as run:
            run(task.title, work_items(task))
        extractor = _fitted(task, data)
        print(_told(task, extractor))
        whole([Store.open(task.out)], Store.open(task.out))
    return extractor


def _fitted(task: FitTask, data: Dataset) -> SmallExtractor:
    """The extractor in the task's folder; MetricError when it was fitted otherwise."""
    extractor = SmallExtractor.load(task.out)
    card = extractor.card
    asked = (task.name, task.seed, task.options, data.digest)
    if asked != (card.name, card.seed, card.options, card.data_digest):
        raise MetricError(
            f"{task.out} already holds an extractor that was fitted otherwise ({card.name}, seed "
            f"{card.seed}, {count(card.options.images, 'image')}, data {card.data_digest[:12]}): "
            "name "
            "another folder with --out, or delete that one"
        )
    return extractor


def _told(task: FitTask, extractor: SmallExtractor) -> str:
    """The extractor, and how to use it."""
    card = extractor.card
    return (
        f"{task.out}: {card.name}, reads {card.accuracy:.1%} of "
        f"{count(card.num_held_out, 'image')} that it "
        f"was not fitted on, {count(card.num_classes, 'class', 'classes')}, digest "
        f"{card.digest[:12]}\n"
        f"evaluate.py: --extractor {task.out}\n"
        "torch-fidelity, in a process of yours: feature_extractor=register_extractor("
        f"SmallExtractor.load({task.out!r})), from unite.evaluation.images.torch_fidelity"
    )


def make_reference(arguments: ReferenceArguments, storage: str) -> Reference:
    """Build the reference statistics of a data set, unless they are there already."""
    data, images, storage = _open(arguments, storage)
    asked = Extractors.of((arguments.extractor,), data, images, storage, arguments.weights)
    if arguments.out:
        _check_place(arguments.out)
    with kept(record_of(settle(arguments, storage))) as whole:
        for remark in asked.remarks:
            print(remark)
        with session(arguments) as run:
            source = asked.prepared(run)[0]
            file = asked.reference(source, run, out=arguments.out)
        reference = check_reference(file, source, data)
        print(
            f"{file}: {count(reference.num, 'image')} of {data.uri}, {reference.mu_F.size} "
            f"features of {reference.extractor.name}, digest {reference.digest}"
        )
        whole([Store.open(file)], Store.open(file))
    return reference


def _open(arguments: DataArguments, storage: str) -> tuple[Dataset, ImagesConfig, str]:
    """The data set, how to read it, and the storage."""
    storage = Store.open(arguments.storage or storage).uri
    data = Dataset.open(data_folder(arguments.data, storage), arguments.split, IMAGES)
    return data, images_of(data, size=arguments.size, channels=arguments.channels), storage


def _check_place(uri: str) -> None:
    """Raise StorageError for a place that cannot be written, before the work and not after."""
    folder, _, _ = Store.open(uri).uri.rpartition("/")
    Store.open(folder or "/").check_writable()
