"""`jobs/export.py`: a model as a folder that explains itself, and as a version in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unite import tracking
from unite.checkpoints.export import write_export
from unite.checkpoints.layout import CARDS_FILE, EXPORT_WEIGHTS
from unite.checkpoints.load import load
from unite.commands.model_card import cards_content, find_card, measured, model_card, title
from unite.config.effects import refuse_changed
from unite.config.names import check_name
from unite.config.schema import TrackingConfig
from unite.config.serialise import to_dict
from unite.evaluation.card import MetricCard
from unite.evaluation.compare import why_not_better
from unite.evaluation.results import Outcome
from unite.evaluation.target import Subject, open_subject
from unite.metrics.specs import direction, directions
from unite.models.unite import UNITE
from unite.runs import read_record, run_of
from unite.sampling import serving
from unite.storage import Store
from unite.tracking import registry
from unite.words import command

README = "README.md"
CARD_TAG = "card."
"""Prefix of the tags that hold a version's metric cards."""


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


@dataclass(frozen=True, kw_only=True)
class Export:
    """A checked request."""

    arguments: ExportArguments
    storage: str
    subject: Subject
    outcomes: tuple[Outcome, ...]
    card: MetricCard | None
    """Card of the metric that decides on the champion."""
    uri: str
    """Tracking URI of MLflow; empty when nothing is registered."""
    out: Store
    command: str
    """Command that measures these weights."""


def export(arguments: ExportArguments, default_storage: str) -> None:
    """Write the folder and, when asked to, register it; prints the results.

    ValueError, CheckpointError or StorageError say what is wrong with the input.
    """
    request = prepare(arguments, arguments.storage or default_storage)
    model = load(request.subject.uri, ema=arguments.ema)
    write_folder(request, model)
    print(f"exported {title(request.subject)}: {request.out}")
    if not arguments.register:
        return
    try:
        version = _register(request, model)
        print(f"registered {version} at {request.uri}")
        if request.card is not None:
            print(_contest(request, version))
    except tracking.TrackingError as error:
        raise tracking.TrackingError(
            f"{error}. The folder {request.out} is complete and kept; the same command registers it"
        ) from error


def prepare(arguments: ExportArguments, storage: str) -> Export:
    """Check everything that can be checked before weights are read."""
    _check(arguments)
    subject = open_subject(arguments.run, storage, ema=arguments.ema)
    outcomes, command = tuple(measured(subject)), _command(subject)
    card = find_card(outcomes, arguments.champion, command) if arguments.champion else None
    out = _out(arguments, subject)
    _check_free(out, subject)
    out.check_writable()
    return Export(
        arguments=arguments,
        storage=storage,
        subject=subject,
        outcomes=outcomes,
        card=card,
        uri=_registry_uri(arguments, subject, storage),
        out=out,
        command=command,
    )


def write_folder(request: Export, model: UNITE) -> None:
    """Write config.json, README.md, cards.json and, last, the weights."""
    subject, outcomes = request.subject, request.outcomes
    text = model_card(subject, model, outcomes, request.command)
    request.out.write(README, text.encode())
    request.out.write_json(CARDS_FILE, cards_content(subject, outcomes))
    write_export(model, to_dict(subject.config), request.out)


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


def _registry_uri(arguments: ExportArguments, subject: Subject, storage: str) -> str:
    """The MLflow to register with, which answers; TrackingError when it does not."""
    if not arguments.register:
        return ""
    handle = _handle(subject)
    recorded = handle.uri if handle and tracking.is_here(handle) else ""
    uri = tracking.resolve_uri(TrackingConfig(uri=arguments.mlflow or recorded), storage)
    tracking.check(uri)
    return uri


def _handle(subject: Subject) -> tracking.RunHandle | None:
    """The training run in MLflow."""
    run = run_of(Store.open(subject.uri))
    record = read_record(run) if run is not None else {}
    if not (record.get("mlflow_run_id") and record.get("mlflow_uri")):
        return None
    return tracking.RunHandle(record["mlflow_uri"], record["mlflow_run_id"])


def _out(arguments: ExportArguments, subject: Subject) -> Store:
    if arguments.out:
        return Store.open(arguments.out)
    run, _, _ = subject.home.rpartition("/evaluations/")
    return Store.open(run) / "exports" / f"{subject.images:012d}{'' if subject.ema else '-raw'}"


def _command(subject: Subject) -> str:
    words = ["python", "jobs/evaluate.py", "--run", subject.uri]
    return command(*words, *([] if subject.ema else ["--no-ema"]))


def _check_free(out: Store, subject: Subject) -> None:
    """ValueError when the folder has another model; the same one is written again."""
    if not out.exists(EXPORT_WEIGHTS):
        return
    whose = out.read_json(CARDS_FILE, {}) if out.is_file(CARDS_FILE) else {}
    same = cards_content(subject, ())
    if any(whose.get(name) != same[name] for name in ("checkpoint", "weights")):
        raise ValueError(f"{out} already holds another model; name another --out")


def _register(request: Export, model: UNITE) -> registry.Version:
    subject = request.subject
    served = serving.serving_for(subject.config.domain)
    package = registry.Package(
        folder=request.out,
        loader=serving.__name__,
        params=serving.default_params(subject.config.sampling),
        inputs=served.inputs,
        outputs=served.outputs,
        tags=_tags(request),
        description=f"{title(subject)}. README.md among its files tells the rest.",
    )
    return registry.register(
        request.uri,
        request.arguments.register,
        package,
        experiment=subject.config.tracking.experiment,
        storage=request.storage,
        run_id=registry.source_run(_handle(subject), request.uri),
    )


def _tags(request: Export) -> dict[str, str]:
    """Tags for searches, and the card of every metric that can choose a champion."""
    subject = request.subject
    cards = [row.card for outcome in request.outcomes for row in outcome.rows]
    return {
        "checkpoint": subject.digest,
        "weights": "ema" if subject.ema else "raw",
        "images": str(subject.images),
        "recipe": subject.config.recipe,
        **{CARD_TAG + card.metric: card.to_json() for card in cards if direction(card.metric)},
    }


def _contest(request: Export, version: registry.Version) -> str:
    """Move the alias if the new version is better; returns the result and its reason in words."""
    card, name = request.card, request.arguments.register
    assert card is not None
    holder = registry.champion(request.uri, name)
    if holder is not None:
        why_not = _why_not(card, holder)
        if why_not:
            return f"the champion stays {holder}: {why_not}"
    registry.crown(request.uri, version)
    before = "there was none" if holder is None else f"before it was {holder.number}"
    return f"the champion is now {version} ({card.metric} {card.value:g}; {before})"


def _why_not(card: MetricCard, holder: registry.Version) -> str:
    text: Any = holder.tags.get(CARD_TAG + card.metric)
    if not text:
        return (
            f"it has no card of {card.metric} to compare with. Evaluate and register its "
            "checkpoint again, or move the alias by hand in MLflow"
        )
    return why_not_better(card, MetricCard.from_json(text))
