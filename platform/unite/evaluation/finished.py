"""Records of finished commands of jobs/evaluate.py: places, and what numbers follow from.

    RUN/evaluations/CHECKPOINT/finished/KEY.json     suites, table4, curve
    STORAGE/untrained/RECIPE/finished/KEY.json       --recipe
    STORAGE/finished/KEY.json                        fit-extractor, reference

The same command, typed once more, has nothing to do (`unite.finished`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any, TypeVar

from unite.checkpoints.layout import MARKER, checkpoint_digest, committed, folder_of, latest
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import digest, json_digest
from unite.data.folder import ParquetFolder
from unite.data.manifest import MANIFEST
from unite.data.parts import parts_of
from unite.entry import PACKAGE, code_digest
from unite.evaluation.arguments import (
    CurveArguments,
    DataArguments,
    EvaluateArguments,
    ReferenceArguments,
    SampleArguments,
    check,
    check_data,
    chosen_suites,
    readers,
)
from unite.finished import Record
from unite.metrics.versions import chemistry_versions, library_versions
from unite.runs import (
    EVALUATIONS,
    builtin_folder,
    is_builtin,
    parent_of,
    read_record,
    read_run_config,
    resolve_run,
    run_of,
)
from unite.storage import Store, database_path
from unite.weights import weights_folders, weights_in

FOLDER = "finished"
UNTRAINED = "untrained"
"""Folder below the storage with results of recipes."""
T = TypeVar("T")


def settle(arguments: T, storage: str) -> T:
    """The request with places in place of names: `latest` is told once, a storage is absolute.

    ValueError and CheckpointError as from `check` and `resolve_run`.
    """
    if not isinstance(arguments, DataArguments | SampleArguments) or _of(arguments, "push"):
        return arguments
    home = Store.open(arguments.storage or storage).uri
    if isinstance(arguments, DataArguments):
        check_data(arguments)
    if isinstance(arguments, DataArguments) or _of(arguments, "recipe"):
        return replace(arguments, storage=home)
    if isinstance(arguments, EvaluateArguments):
        check(arguments)
    return replace(arguments, run=resolve_run(arguments.run, home))


def record_of(arguments: Any) -> Record | None:
    """The record of a settled request; None for what keeps none (exports, bare weights, compare).

    CheckpointError names the damaged file of a run.
    """
    if isinstance(arguments, DataArguments):
        return _record_of_data(arguments)
    if not isinstance(arguments, SampleArguments) or _of(arguments, "push"):
        return None
    if name := _of(arguments, "recipe"):
        home = untrained_home(name, arguments.seed, arguments.storage)
        return record_in(home, {"arguments": asdict(replace(arguments, storage=""))}, arguments)
    return _record_of_run(arguments)


def untrained_home(name: str, seed: int, storage: str) -> Store:
    """Folder of the results of an untrained recipe; ValueError for an unknown one."""
    return Store.open(storage) / UNTRAINED / f"{name}-{digest(recipe(name))}-seed-{seed}"


def _record_of_run(arguments: SampleArguments) -> Record | None:
    place = Store.open(arguments.run)
    checkpoint = None if place.is_file() else place if place.exists(MARKER) else latest(place)
    run = checkpoint and run_of(checkpoint)
    config = checkpoint and read_run_config(checkpoint.uri)
    if checkpoint is None or run is None or config is None:
        return None
    kept = committed(run) if isinstance(arguments, CurveArguments) else ()
    followed = {
        "chemistry": chemistry_versions(),
        "arguments": asdict(replace(arguments, run=checkpoint.uri, storage="")),
        "checkpoints": [checkpoint_digest(folder_of(run, images)) for images in kept],
        "mlflow": _mlflow(run),
        "data": _data(arguments, config, run),
        "weights": _weights(arguments, config),
        "given": _given((arguments.reference, *arguments.extractor)),
    }
    home = run / EVALUATIONS / checkpoint_digest(checkpoint)
    return record_in(home, followed, arguments)


def _record_of_data(arguments: DataArguments) -> Record:
    place = arguments.data
    place = builtin_folder(place, arguments.storage) if is_builtin(place) else place
    followed = {
        "arguments": asdict(replace(arguments, storage="")),
        "data": _contents([Store.open(place)]),
        "given": _given((_of(arguments, "extractor"),)),
    }
    if isinstance(arguments, ReferenceArguments):
        followed["weights"] = _weights_in(arguments.weights)
    return record_in(Store.open(arguments.storage), followed, arguments)


def record_in(home: Store, followed: dict[str, Any], arguments: Any) -> Record:
    """The record of a kind of request in a folder; code and libraries decide every number."""
    followed = followed | {
        "kind": type(arguments).__name__,
        "versions": [code_digest(PACKAGE), library_versions(), find_spec("lpips") is None],
    }
    key = json_digest(followed)
    return Record(folder=home, file=f"{FOLDER}/{key}.json", key=key)


def _of(arguments: Any, name: str) -> Any:
    """An option, or the empty text where this kind of request does not have it."""
    return getattr(arguments, name, "")


def _mlflow(run: Store) -> list[Any]:
    """The training run that results go to, and whether its database is here."""
    record = read_record(run)
    uri = record.get("mlflow_uri") or ""
    database = database_path(uri)
    return [uri, record.get("mlflow_run_id"), database is None or database.exists()]


def _data(arguments: SampleArguments, config: RunConfig, run: Store) -> list[Any]:
    """The data folders of a request."""
    train = arguments.data or config.data.train
    held_out = _of(arguments, "eval_data") or arguments.data or config.data.eval or train
    storage = parent_of(run).uri
    places = [
        Store.open(folder)
        for each in (train, held_out)
        if each
        for folder in parts_of(builtin_folder(each, storage) if is_builtin(each) else each)
    ]
    return _contents(places)


def _contents(places: Sequence[Store]) -> list[Any]:
    """The digest of each data folder's manifest, and the sizes of its files."""
    manifests = [place.is_file(MANIFEST) and place.digest(MANIFEST) for place in places]
    return [*manifests, *([place.uri, ParquetFolder.list(place).sizes] for place in places)]


def _weights(arguments: SampleArguments, config: RunConfig) -> dict[str, dict[str, int]]:
    """Sizes of the pretrained files, for suites that take features."""
    suites = chosen_suites(_of(arguments, "suite") or ())
    if not set(readers()["extractor"]) & set(suites):
        return {}
    return _weights_in(arguments.weights or config.weights)


def _weights_in(place: str) -> dict[str, dict[str, int]]:
    """Sizes of the pretrained files, which decide what extractors there are."""
    return {place.uri: weights_in(place) for place in weights_folders(place)}


def _given(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Digests of a reference, and of the files of fitted extractors, that were named."""
    named = [Store.open(each) for each in names if each]
    found = {place.uri: {name: place.digest(name) for name in _files(place)} for place in named}
    return {uri: files for uri, files in found.items() if files}  # the others are no places


def _files(place: Store) -> list[str]:
    """Names of the files directly in a folder; of a file "", and of nothing none."""
    return [""] if place.is_file() else [name for name in place.list() if place.is_file(name)]
