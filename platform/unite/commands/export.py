"""`jobs/export.py`: a model as a folder that explains itself, and as a version in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unite import tracking
from unite.checkpoints.export import write_export
from unite.checkpoints.layout import CARDS_FILE, EXPORT_CONFIG, EXPORT_WEIGHTS
from unite.checkpoints.load import load
from unite.commands.export_request import (
    ExportArguments,
    place_of,
    record_of,
    recorded,
    settle,
)
from unite.commands.model_card import cards_content, find_card, measured, model_card, title
from unite.config.schema import TrackingConfig
from unite.config.serialise import to_dict
from unite.drivers.told import kept
from unite.evaluation.card import MetricCard
from unite.evaluation.compare import why_not_better
from unite.evaluation.results import Outcome
from unite.evaluation.target import Subject, open_subject
from unite.metrics.specs import direction
from unite.models.unite import UNITE
from unite.sampling import serving
from unite.storage import Store
from unite.tracking import registry
from unite.words import command

README = "README.md"
FILES = (README, CARDS_FILE, EXPORT_CONFIG, EXPORT_WEIGHTS)
CARD_TAG = "card."
"""Prefix of the tags that hold a version's metric cards."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A checked request."""

    arguments: ExportArguments
    """The request, settled."""
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
    """Write the folder and, when asked to, register it; prints the results and keeps them.

    ValueError, CheckpointError or StorageError say what is wrong with the input.
    """
    request = prepare(arguments, default_storage)
    with kept(record_of(request.arguments)) as whole:
        model = load(request.subject.uri, ema=arguments.ema)
        write_folder(request, model)
        print(f"exported {title(request.subject)}: {request.out}")
        if arguments.register:
            _deliver(request, model)
        whole([request.out / name for name in FILES], request.out)


def prepare(arguments: ExportArguments, default_storage: str) -> Export:
    """Check everything that can be checked before weights are read."""
    arguments = settle(arguments, default_storage)
    subject = open_subject(arguments.run, arguments.storage, ema=arguments.ema)
    outcomes, command = tuple(measured(subject)), _command(subject)
    card = find_card(outcomes, arguments.champion, command) if arguments.champion else None
    out = place_of(arguments, subject)
    _check_free(out, subject)
    out.check_writable()
    return Export(
        arguments=arguments,
        subject=subject,
        outcomes=outcomes,
        card=card,
        uri=_registry_uri(arguments, subject),
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


def _registry_uri(arguments: ExportArguments, subject: Subject) -> str:
    """The MLflow to register with, which answers; TrackingError when it does not."""
    if not arguments.register:
        return ""
    handle = _handle(subject)
    own = handle.uri if handle and tracking.is_here(handle) else ""
    uri = tracking.resolve_uri(TrackingConfig(uri=arguments.mlflow or own), arguments.storage)
    tracking.check(uri)
    return uri


def _handle(subject: Subject) -> tracking.RunHandle | None:
    """The training run in MLflow."""
    uri, run_id = recorded(subject)
    return tracking.RunHandle(uri, run_id) if uri else None


def _command(subject: Subject) -> str:
    words = ["python", "jobs/evaluate.py", "--run", subject.uri]
    return command(*words, *([] if subject.ema else ["--no-ema"]))


def _check_free(out: Store, subject: Subject) -> None:
    """ValueError when the folder is a run or has another model; the same one is written again."""
    if not any(out.is_file(name) for name in (EXPORT_CONFIG, EXPORT_WEIGHTS)):
        return
    whose = out.read_json(CARDS_FILE, {}) if out.is_file(CARDS_FILE) else {}
    same = cards_content(subject, ())
    if any(whose.get(name) != same[name] for name in ("checkpoint", "weights")):
        raise ValueError(f"{out} already holds another model; name another --out")


def _deliver(request: Export, model: UNITE) -> None:
    """Register the folder, and let it contest for the alias."""
    try:
        version = _register(request, model)
        print(f"registered {version} at {request.uri}")
        if request.card is not None:
            print(_contest(request, version))
    except tracking.TrackingError as error:
        raise tracking.TrackingError(
            f"{error}. The folder {request.out} is complete and kept; the same command registers it"
        ) from error


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
        storage=request.arguments.storage,
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
