"""Options of `jobs/export.py`, and the record of an export that is finished.

The same command, typed once more, has nothing to export (`unite.finished`): so this module imports
no torch and no MLflow.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace

from unite.config.effects import refuse_changed
from unite.config.names import check_name
from unite.evaluation.finished import record_in
from unite.evaluation.target import Subject, open_subject
from unite.finished import Record
from unite.metrics.specs import direction, directions
from unite.runs import RESULTS_FILE, read_record, resolve_run, run_of
from unite.storage import Store, database_path
from unite.tracking.server import VARIABLE


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Export a model, and register it in MLflow when asked to."""

    run: str = "latest"
    """latest, a run's name or MLflow id, or a path or s3:// URI of a run, checkpoint, export or
    weights file."""
    out: str = ""
    """Folder or s3:// URI; empty = RUN/exports/IMAGES_SEEN."""
    register: str = ""
    """Name of a registered model in MLflow, which gets the export as its next version."""
    champion: str = ""
    """A metric, such as psnr or fd-digits-cnn: the new version gets the alias `champion` if it is
    better than the version that has it, measured in the same way, or if there is none."""
    mlflow: str = ""
    """Tracking URI; empty = the run's own, else MLFLOW_TRACKING_URI, else sqlite in the storage."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    ema: bool = True
    """Export the averaged weights; false takes those of the last step."""


def settle(arguments: ExportArguments, storage: str) -> ExportArguments:
    """The request with places in place of names: `latest` is told once, a storage is absolute.

    ValueError for options that exclude each other; CheckpointError as from `resolve_run`.
    """
    _check(arguments)
    home = Store.open(arguments.storage or storage).uri
    return replace(arguments, run=resolve_run(arguments.run, home), storage=home)


def record_of(arguments: ExportArguments) -> Record:
    """The record of a settled request, beside the results of its weights.

    CheckpointError names what is damaged or missing of a run.
    """
    subject = open_subject(arguments.run, arguments.storage, ema=arguments.ema)
    home, out = Store.open(subject.home), place_of(arguments, subject)
    followed = {
        "arguments": asdict(replace(arguments, run=subject.uri, out=out.uri, storage="")),
        "weights": subject.digest,
        "results": home.digest(RESULTS_FILE) if home.is_file(RESULTS_FILE) else "",
        "mlflow": _mlflow(arguments, subject) if arguments.register else [],
    }
    return record_in(home, followed, arguments)


def place_of(arguments: ExportArguments, subject: Subject) -> Store:
    """Folder of the export."""
    if arguments.out:
        return Store.open(arguments.out)
    run, _, _ = subject.home.rpartition("/evaluations/")
    return Store.open(run) / "exports" / f"{subject.images:012d}{'' if subject.ema else '-raw'}"


def recorded(subject: Subject) -> tuple[str, str]:
    """URI of MLflow and id of the training run in it; empty where it was not tracked."""
    run = run_of(Store.open(subject.uri))
    record = read_record(run) if run is not None else {}
    found = record.get("mlflow_uri") or "", record.get("mlflow_run_id") or ""
    return found if all(found) else ("", "")


def _check(arguments: ExportArguments) -> None:
    if arguments.register:
        check_name(arguments.register, "--register")
    else:
        refuse_changed(arguments, ("champion", "mlflow"), "without --register NAME")
    if arguments.champion and direction(arguments.champion) is None:
        raise ValueError(
            f"--champion {arguments.champion!r}: neither higher nor lower is better; use one of "
            f"{', '.join(directions())} (distances with their extractor, as fd-digits-cnn)"
        )


def _mlflow(arguments: ExportArguments, subject: Subject) -> list[tuple[str, bool]]:
    """All that may name the MLflow to register with, and whether its database is here."""
    named = (arguments.mlflow, recorded(subject)[0], os.environ.get(VARIABLE, ""))
    uris = [*named, f"sqlite:///{arguments.storage}/mlflow.db"]
    found = [(uri, database_path(uri)) for uri in uris]
    return [(uri, database is None or database.exists()) for uri, database in found]
