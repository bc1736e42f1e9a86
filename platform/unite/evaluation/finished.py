"""The table of a finished evaluation: kept beside its results, and told again in a moment.

    RUN/evaluations/CHECKPOINT/finished/COMMAND.json

The same command, typed once more, has nothing to do. It must say so at once, so this module
imports neither torch nor Ray nor MLflow. A record is found by a digest of all that the numbers
follow from, and holds the digest of results.json: who writes other results ends it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from unite.checkpoints.layout import MARKER, checkpoint_digest, latest
from unite.config.schema import RunConfig
from unite.data.folder import ParquetFolder
from unite.data.manifest import MANIFEST
from unite.entry import PACKAGE, code_digest
from unite.evaluation.arguments import EvaluateArguments, check, chosen_suites, readers
from unite.metrics.versions import chemistry_versions, library_versions
from unite.runs import (
    EVALUATIONS,
    RESULTS_FILE,
    builtin_folder,
    is_builtin,
    parent_of,
    read_record,
    read_run_config,
    resolve_run,
    run_of,
)
from unite.storage import StorageError, Store, database_path
from unite.weights import weights_folders, weights_in

FOLDER = "finished"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The place of what one command, on one checkpoint, has printed."""

    home: Store
    """Folder of the checkpoint's evaluations."""
    file: str

    def keep(self, lines: Sequence[str]) -> None:
        """Keep the lines of an evaluation that is whole: results written, and sent if wanted."""
        time = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        content = {"lines": list(lines), "results": self.home.digest(RESULTS_FILE), "time": time}
        self.home.write_json(self.file, content)

    def lines(self) -> list[str] | None:
        """Lines to print, when there is a whole record and its results are still there."""
        fields = {"lines": list, "results": str, "time": str}
        try:
            kept = self.home.read_json(self.file, fields)
            is_same = kept["results"] == self.home.digest(RESULTS_FILE)
        except StorageError:
            return None
        again = f"finished at {kept['time']}; nothing to do. To measure again, delete {self.home}"
        return [*map(str, kept["lines"]), again] if is_same else None


def settle(arguments: EvaluateArguments, storage: str) -> EvaluateArguments:
    """The request with the place of its run in place of a name: `latest` is told once.

    ValueError and CheckpointError as from `check` and `resolve_run`.
    """
    if arguments.push or arguments.recipe:
        return arguments
    check(arguments)
    return replace(arguments, run=resolve_run(arguments.run, arguments.storage or storage))


def record_of(arguments: EvaluateArguments) -> Record | None:
    """The record of a settled request; None for what keeps none (exports, bare weights, recipes).

    CheckpointError names the damaged file of a run.
    """
    if arguments.push or arguments.recipe:
        return None
    place = Store.open(arguments.run)
    checkpoint = None if place.is_file() else place if place.exists(MARKER) else latest(place)
    run = checkpoint and run_of(checkpoint)
    config = checkpoint and read_run_config(checkpoint.uri)
    if checkpoint is None or run is None or config is None:
        return None
    followed = {
        "versions": [code_digest(PACKAGE), library_versions(), find_spec("lpips") is None],
        "chemistry": _chemistry(config),
        "arguments": asdict(replace(arguments, run=checkpoint.uri, storage="")),
        "mlflow": _mlflow(run),
        "data": _data(arguments, config, run),
        "weights": _weights(arguments, config),
        "given": _given(arguments),
    }
    name = hashlib.sha256(json.dumps(followed, sort_keys=True).encode()).hexdigest()[:16]
    home = run / EVALUATIONS / checkpoint_digest(checkpoint)
    return Record(home=home, file=f"{FOLDER}/{name}.json")


def _chemistry(config: RunConfig) -> dict[str, str]:
    """Packages that judge the samples of its domain, where there are such."""
    return {} if config.domain.kind == "images" else chemistry_versions()


def _mlflow(run: Store) -> list[Any]:
    """The training run that results go to, and whether its database is here."""
    record = read_record(run)
    uri = record.get("mlflow_uri") or ""
    database = database_path(uri)
    return [uri, record.get("mlflow_run_id"), database is None or database.exists()]


def _data(arguments: EvaluateArguments, config: RunConfig, run: Store) -> list[Any]:
    """The digest of each data folder's manifest, and the sizes of its files."""
    train = arguments.data or config.data.train
    held_out = arguments.eval_data or arguments.data or config.data.eval or train
    storage = parent_of(run).uri
    places = [
        Store.open(builtin_folder(each, storage) if is_builtin(each) else each)
        for each in (train, held_out)
        if each
    ]
    manifests = [place.is_file(MANIFEST) and place.digest(MANIFEST) for place in places]
    return [*manifests, *([place.uri, ParquetFolder.list(place).sizes] for place in places)]


def _weights(arguments: EvaluateArguments, config: RunConfig) -> dict[str, dict[str, int]]:
    """Sizes of the pretrained files, which decide what extractors there are."""
    if not set(readers()["extractor"]) & set(chosen_suites(arguments.suite)):
        return {}
    places = weights_folders(arguments.weights or config.weights)
    return {place.uri: weights_in(place) for place in places}


def _given(arguments: EvaluateArguments) -> dict[str, dict[str, str]]:
    """Digests of a reference, and of the files of fitted extractors, that were named."""
    named = [Store.open(each) for each in (arguments.reference, *arguments.extractor) if each]
    found = {place.uri: {name: place.digest(name) for name in _files(place)} for place in named}
    return {uri: files for uri, files in found.items() if files}  # the others are no places


def _files(place: Store) -> list[str]:
    """Names of the files directly in a folder; of a file "", and of nothing none."""
    return [""] if place.is_file() else [name for name in place.list() if place.is_file(name)]
