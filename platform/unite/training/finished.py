"""The report of a finished run: kept in its folder, and told again in a moment.

The same command, typed once more, has nothing to do. It must say so at once, so this module
imports neither torch nor Ray nor MLflow.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from unite.config.finetune import as_trained
from unite.config.schema import RunConfig
from unite.config.validate import validate
from unite.metrics.specs import spec_of
from unite.runs import origin, parent_of
from unite.storage import StorageError, Store, database_path
from unite.training.runs import Run, changed_fields, open_run, run_flags
from unite.words import clock, command, count

FILE = "report.json"
OLD_QUALITY = "psnr_db"
"""Name of `quality` in the files of older versions."""
PLACES = ("grid", "curves", "browse")
"""Fields that name places of the run's storage."""
REPLACED = ("--training.epochs", "--resume")
"""Flags, each with a value, that continuing a finished run sets anew."""
LOCAL_PAGES = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
"""Address of the pages of `mlflow ui` on this machine, opened in model training."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures that are printed at the end of a run."""

    images: int
    quality: float | None
    """Held-out reconstruction by the domain's own metric; None before the first evaluation."""
    latent_std: float | None
    grid: str
    """Path of the last sample grid, or the command that draws one."""
    curves: str
    read_samples: float | None = None
    """Share of samples that a classifier of real images reads as their class, 0..1; digits only."""
    read_real: float | None = None
    """Share of real held-out images that the classifier reads as their class, 0..1."""
    metric: str = "psnr"
    """Name of that metric."""
    seconds: float = 0.0
    """Duration of the session that ended the run, in seconds."""
    browse: str = ""
    """Command that shows its curves in the browser; empty when it was not tracked."""
    interruptions: str = ""
    """Interruptions of the run in words; empty when there were none."""


def keep_report(run: Run, report: Report) -> None:
    """Put the report into the run's folder."""
    run.folder.write_json(FILE, asdict(report))


def find_finished(
    config: RunConfig, *, resume: str, allow_changes: bool
) -> tuple[Run, Report] | None:
    """The run that a command means and its report, when there is nothing left to train.

    ValueError as from `open_run`. A run of other fields, one that trained on since the report was
    made, and one without a whole report are not finished.
    """
    validate(as_trained(config))
    run = open_run(config, resume=resume, allow_changes=allow_changes)
    if run.resume_from is None or not run.folder.is_file(FILE):
        return None
    try:
        content = run.folder.read_json(FILE)
        if OLD_QUALITY in content:
            content["quality"] = content.pop(OLD_QUALITY)
        report = Report(**content)
        here = {name: _brought_home(run.folder, getattr(report, name)) for name in PLACES}
        if here["browse"] != report.browse and _is_gone(here["browse"]):
            here["browse"] = ""  # a copy of the run alone, without MLflow's file
        report = replace(report, **here)
    except (StorageError, TypeError, AttributeError):
        return None
    is_newest = report.images == int(run.resume_from.name)
    return (run, report) if is_newest and not changed_fields(run.config, run.folder) else None


def report_lines(run: Run, report: Report) -> list[str]:
    """The figures of a finished run, and what to do next."""
    session = f", {clock(report.seconds)} in the last session" if report.seconds else ""
    rows = {"trained": f"{_samples(run, report.images)}{session}"}
    if report.quality is not None:
        row = spec_of(f"eval/{report.metric}")
        unit, name = (row.unit, row.name) if row else ("", report.metric)
        measured = " ".join(filter(None, (_short(report.quality), unit, name)))
        rows["reconstruction"] = f"{measured} on held-out {run.config.domain.kind}"
    if report.read_samples is not None and report.read_real is not None:
        rows["samples"] = (
            f"{report.read_samples:.1%} read as the intended class by a classifier trained on "
            f"the real images (it reads {report.read_real:.1%} of real held-out ones)"
        )
    if report.latent_std is not None:
        rows["latent/std"] = f"{report.latent_std:.2f}"
    if report.interruptions:
        rows["interrupted"] = report.interruptions
    rows |= {"sample grid": report.grid, "curves": report.curves}
    return [*aligned(rows), "", "Next:", *_next(run, report)]


def finished_lines(run: Run, report: Report, words: Sequence[str]) -> list[str]:
    """Lines that a finished run prints when its command (`words`) is typed again."""
    told = report_lines(run, report)
    epochs = f"{2 * run.config.training.epochs:g}"
    longer = ["--training.epochs", epochs, "--resume", run.folder.uri, "--allow-changes"]
    same, again = _without(words, *REPLACED), _without(words, "--resume")
    return [
        *aligned({"run": f"{run.folder} (finished; nothing to do)"}),
        *told,
        f"  {command('python', 'jobs/train.py', *same, *longer)}",
        "      train this run longer, here to twice its length",
        f"  {command('python', 'jobs/train.py', *again, '--resume', 'never')}",
        "      train a new one beside it",
    ]


def stopped_line(run: Run, images: int) -> str:
    """Line that a run prints which was stopped after `images` samples."""
    return f"stopped after {_samples(run, images)}; the same command continues"


def _samples(run: Run, number: int) -> str:
    """Number of samples in words, by the domain."""
    return count(number, run.config.domain.kind.removesuffix("s"))


def aligned(rows: dict[str, str]) -> list[str]:
    """Names and values in two columns; nothing is cut off."""
    width = max(len("reconstruction"), *map(len, rows)) + 2
    return [f"{name:<{width}}{value}" for name, value in rows.items()]


def _short(value: float) -> str:
    """A number with one place after the point, and below 1 with three digits."""
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"


def _address(browse: str) -> str:
    """Address of the pages that a command starts, opened in model training."""
    return f": {LOCAL_PAGES}" if browse.startswith("mlflow ") else ""


def _brought_home(run: Store, text: str) -> str:
    """A path or command of a run, with its folder and storage of now for those that it was copied,
    moved or renamed from."""
    old, name = origin(run)
    if not old:
        return text
    text = text.replace(f"{old}/{name}/", f"{run.uri}/") if name else text
    return text.replace(f"{old}/", f"{parent_of(run).uri}/")


def _is_gone(browse: str) -> bool:
    """True if a command shows a database of MLflow that is not there."""
    database = database_path(shlex.split(browse)[-1]) if browse else None
    return database is not None and not database.exists()


def _next(run: Run, report: Report) -> list[str]:
    flags, last = run_flags(run), min(run.config.domain.num_classes, 10) - 1
    classes = ["--labels", f"0-{last}" if last else "0"] if last >= 0 else []
    drawn = [*classes, "--num", "100", "--out", "samples"]
    commands = {
        command("python", "jobs/generate.py", *flags, *drawn): "more samples",
        command("python", "jobs/evaluate.py", *flags): "every metric",
        command("python", "jobs/train.py", "--help"): "every setting",
    }
    if report.browse:
        commands[report.browse] = f"curves and pictures in the browser{_address(report.browse)}"
    return [
        text for line, meaning in commands.items() for text in (f"  {line}", f"      {meaning}")
    ]


def _without(words: Sequence[str], *flags: str) -> list[str]:
    """The words of a command without flags that have a value and are set anew."""
    kept: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word in flags:
            left = left[1:]
        elif word not in ("--allow-changes", "--dry-run") and word.partition("=")[0] not in flags:
            kept.append(word)
    return kept
