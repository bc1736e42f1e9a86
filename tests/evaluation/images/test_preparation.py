import io
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unite.checkpoints.load import load
from unite.config.schema import ImagesConfig
from unite.data.loader import sequential_batches
from unite.data.manifest import ShardError
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.drivers.evaluate import evaluate
from unite.drivers.features import fit_extractor, make_reference
from unite.drivers.session import make_worker
from unite.evaluation.arguments import FitArguments, ReferenceArguments
from unite.evaluation.chunks import partition, read_chunk
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.fitting import FitTask, default_options
from unite.evaluation.images.preparation import Extractors
from unite.evaluation.images.reading import images_of
from unite.evaluation.images.reference import Reference
from unite.evaluation.instruments import Instruments
from unite.metrics.errors import MetricError
from unite.storage import StorageError


@pytest.fixture
def digits(storage):
    return str(storage / "data" / "digits")


def refer(storage, **changes):
    settings = {"data": "builtin:digits", "extractor": "pixels", "num_workers": 0, **changes}
    return make_reference(ReferenceArguments(**settings), str(storage))


def test_a_data_set_says_how_it_is_read(digits):
    images = images_of(Dataset.open(digits, "train", IMAGES))
    assert (images.size, images.channels, images.num_classes) == (8, 1, 10)
    assert images_of(Dataset.open(digits, "eval", IMAGES), size=4, channels=3).size == 4


def test_a_reference_holds_every_row_once(storage):
    reference = refer(storage)
    assert reference.num == 1500
    assert reference.label_histogram.sum() == 1500
    assert reference.made.data_digest == Dataset.open(reference.made.data, "train", IMAGES).digest
    assert reference.root_FR is not None
    assert not list((storage / "references").glob("reference-*/chunks/*"))


def test_a_reference_that_another_command_builds_meanwhile_is_taken(storage, digits):
    data = Dataset.open(digits, "train", IMAGES)
    asked = Extractors.of(("pixels",), data, images_of(data), str(storage))
    (source,) = asked.sources
    worker, others = make_worker(False, 0), []

    def compute(title, works):
        for work in works:
            worker(work)

    def compute_as_two(title, works):
        compute(title, works)
        others.append(asked.reference(source, compute))

    assert asked.reference(source, compute_as_two) == others[0]
    assert Reference.load(others[0]).num == 1500
    shutil.rmtree(storage / "references")
    with pytest.raises(StorageError, match="chunks/reference-0-"):
        asked.reference(source, lambda title, works: None)


def test_the_evaluation_finds_the_reference_that_was_built(storage, request_of):
    built = refer(storage)
    (outcome,) = evaluate(request_of(suite=("generation",)))
    assert outcome.rows[0].card.reference == built.digest


def test_a_reference_can_be_given(storage, tmp_path, request_of):
    built = refer(storage, out=str(tmp_path / "mine.npz"))
    request = request_of(suite=("generation",), reference=str(tmp_path / "mine.npz"))
    (outcome,) = evaluate(request)
    assert outcome.rows[0].card.reference == built.digest


def test_mu_and_sigma_alone_give_the_distance_alone(storage, tmp_path, request_of):
    built = refer(storage)
    np.savez(tmp_path / "bare.npz", mu=built.mu_F, sigma=built.sigma_FF)
    request = request_of(suite=("generation",), reference=str(tmp_path / "bare.npz"))
    (outcome,) = evaluate(request)
    names = [row.card.metric for row in outcome.rows]
    assert "fd-pixels" in names
    assert "kd-pixels" not in names
    assert "keeps no features" in outcome.remarks[0]


def test_a_reference_of_other_dimensions_is_refused(tmp_path, request_of):
    np.savez(tmp_path / "wide.npz", mu=np.zeros(9), sigma=np.eye(9))
    with pytest.raises(MetricError, match="9 features and extractor pixels gives 64"):
        request_of(suite=("generation",), reference=str(tmp_path / "wide.npz"))


def test_a_reference_of_other_dimensions_is_refused_before_an_extractor_is_fitted(
    tmp_path, request_of
):
    np.savez(tmp_path / "wide.npz", mu=np.zeros(9), sigma=np.eye(9))
    with pytest.raises(MetricError, match="has 9 features, and the small extractor .* has 64"):
        request_of(suite=("generation",), extractor=("auto",), reference=str(tmp_path / "wide.npz"))


def test_a_reference_of_other_data_is_refused(storage, tmp_path, request_of):
    refer(storage, split="eval", out=str(tmp_path / "eval.npz"))
    with pytest.raises(MetricError, match="another data set than the checkpoint's"):
        request_of(suite=("generation",), reference=str(tmp_path / "eval.npz"))


def test_rows_that_cannot_be_decoded_make_no_reference(storage, break_row):
    with pytest.raises(MetricError, match="1 of the rows .* cannot be decoded"):
        refer(storage, data=str(break_row("train", 7)))


def test_an_extractor_is_fitted_once(storage, tmp_path, monkeypatch):
    arguments = FitArguments(
        data="builtin:digits", out=str(tmp_path / "mine"), images=1280, num_workers=0, name="mine"
    )
    fitted = fit_extractor(arguments, str(storage))
    assert fitted.card.accuracy > 0.2
    monkeypatch.setattr(FitTask, "fit", lambda *_: pytest.fail("fitted again"))
    assert fit_extractor(arguments, str(storage)).digest == fitted.digest
    with pytest.raises(MetricError, match="was fitted otherwise .*seed 0, 1,280 images"):
        fit_extractor(replace(arguments, seed=1), str(storage))


def test_its_features_carry_its_name(storage, tmp_path, request_of):
    arguments = FitArguments(
        data="builtin:digits", out=str(tmp_path / "mine"), images=640, num_workers=0, name="mine"
    )
    fit_extractor(arguments, str(storage))
    request = request_of(suite=("generation",), extractor=(str(tmp_path / "mine"),))
    (outcome,) = evaluate(request)
    names = [row.card.metric for row in outcome.rows]
    assert {"fd-mine", "cs-mine", "kd-mine", "precision-mine"} <= set(names)
    assert not any("std" in name for name in names)


def test_small_sets_are_not_seen_thousands_of_times():
    assert default_options(1500, ImagesConfig(size=8, patch=2, channels=1)).images == 30_000
    assert default_options(10**9, ImagesConfig(size=8, patch=2, channels=1)).images == 200_000


def test_large_images_are_fitted_on_as_many_as_a_few_minutes_allow(digits):
    """CIFAR-10 took nine minutes on 200,000 images."""
    cifar = default_options(50_000, ImagesConfig(size=32, patch=4)).images
    assert 60_000 < cifar < 120_000
    assert 1_000 < default_options(10**6, ImagesConfig()).images < 3_000
    data = Dataset.open(digits, "train", IMAGES)
    task = FitTask.of(data, ImagesConfig(size=32, patch=4), "/nowhere", name="c")
    assert task.title.startswith("fitting the extractor c on 30,000 images, about 82 s")


def test_the_chunks_of_a_reference_are_in_memory_one_at_a_time(storage, monkeypatch):
    alive, most = [0], [0]

    class Counted(dict):
        def __init__(self, arrays):
            super().__init__(arrays)
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    monkeypatch.setattr(
        "unite.evaluation.suite.read_chunk", lambda *where: Counted(read_chunk(*where))
    )
    assert refer(storage).num == 1500
    assert len(partition("reference", 1500)) >= 16
    assert 1 <= most[0] <= 2, "the next one is read before the last one is let go"
    assert len(partition("reference", 1_281_167)) <= 128


def test_large_sets_are_fitted_on_ranges_spread_over_them(digits, monkeypatch):
    monkeypatch.setattr("unite.evaluation.images.fitting.MOST_BYTES", 1500 * 64 // 4)
    data = Dataset.open(digits, "train", IMAGES)
    task = FitTask.of(data, images_of(data), "/nowhere")
    rows = np.concatenate([part.rows_B.numpy() for part in task._rows(Instruments())])
    assert 200 <= len(rows) <= 400
    assert rows.min() < 100
    assert rows.max() > 1400


@pytest.mark.parametrize(("mode", "kind"), [("L", np.uint8), ("I;16", np.uint16)])
def test_images_of_bare_shards_are_as_the_first_and_the_highest_label_say(tmp_path, mode, kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 9), kind)).save(file, "PNG")
    assert Image.open(io.BytesIO(file.getvalue())).mode == mode
    table = pa.table({"image": [file.getvalue()] * 2, "label": [0, 3]})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    images = images_of(Dataset.open(str(tmp_path), "train", IMAGES))
    assert (images.channels, images.size, images.num_classes) == (1, 6, 4)


def test_reference_statistics_agree_with_numpy(storage):
    domain = load(str(storage / "tiny")).domain
    shards = ShardSet.open(str(storage / "data" / "digits"), "train", IMAGES)
    batches = sequential_batches(shards, domain, batch_size=500)
    pixels = np.concatenate([b.fields["image"] for b in batches]).reshape(-1, 64) / 255
    reference = refer(storage)
    np.testing.assert_allclose(reference.mu_F, pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(reference.sigma_FF, np.cov(pixels.T), rtol=1e-5, atol=1e-9)
    assert reference.label_histogram.dtype == np.int64
    assert Reference.load(str(next((storage / "references").glob("*.npz")))).num == 1500


@pytest.fixture(autouse=True)
def _keep_digits(storage):
    """The session's storage stays as it was."""
    yield
    shutil.rmtree(storage / "references", ignore_errors=True)


def test_a_data_set_says_how_it_is_read_by_images_of_all_its_shards(tmp_path):
    def write(number: int, side: int, shape: tuple[int, ...]) -> None:
        stream = io.BytesIO()
        Image.fromarray(np.zeros((side, 2 * side, *shape), np.uint8)).save(stream, "PNG")
        table = pa.table({"img": [stream.getvalue()], "label": [number]})
        pq.write_table(table, tmp_path / f"train-{number}.parquet")

    write(0, 8, ())
    data = Dataset.open(str(tmp_path), "train", IMAGES)
    assert (images_of(data).size, images_of(data).channels) == (8, 1)
    write(1, 8, (3,))
    assert images_of(Dataset.open(str(tmp_path), "train", IMAGES)).channels == 3
    write(2, 16, (3,))
    data = Dataset.open(str(tmp_path), "train", IMAGES)
    with pytest.raises(ShardError, match="short sides of 8 to 16 pixels.: give --size"):
        images_of(data)
    assert images_of(data, size=8).num_classes == 3
