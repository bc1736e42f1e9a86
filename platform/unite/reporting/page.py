"""The page: the collected experiment, rendered into one HTML file that needs nothing else.

Names come from other people: Jinja escapes them, the data for the script is JSON in which `<`, `>`
and `&` are escaped, and a content security policy lets the page run its own script alone and load
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unite.ablation.verdict import RULE
from unite.evaluation.card import OUTCOMES
from unite.figures.entropy import GROUPS, paper_bars
from unite.figures.looks import css
from unite.figures.svg import inline, inline_key
from unite.metrics.specs import better_words, logged, number, shown_name
from unite.reporting.catalogue import Catalogue, Entry, shown
from unite.reporting.collect import Collected, ReportRun
from unite.reporting.summary import logged_columns
from unite.reporting.view import View

TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"
FIRST_PANELS = 12
"""Number of runs whose dynamics are shown at once."""
SAMPLER = {"cfg_scale": 1.0, "cfg_interval": (0.0, 1.0)}
"""Values of the sampler's fields in cards of suites without samples."""
FACTS = {
    "model.sharing": "weights",
    "flow.steps": "flow steps",
    "flow.stop_gradient": "stop-gradient",
    "training.seed": "seed",
    "training.batch_size": "batch",
    "model.num_registers": "registers",
    "model.latent_dim": "channels",
}
"""Fields of a run's config that its dialog shows."""


def render(view: View, templates: Path, now: datetime) -> str:
    """The page as HTML; the templates are dashboards/report.html.j2, .css and .js."""
    script, data = (templates / SCRIPT).read_text(), view.data
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, svg=inline, key_of=inline_key)
    return environment.get_template(TEMPLATE).render(
        view=view,
        data=data,
        built=now.strftime("%Y-%m-%d %H:%M UTC"),
        versions=versions(),
        commits=_commits(data),
        style=f"{(templates / STYLE).read_text()}\n{css()}",
        script=script,
        script_hash=_hash(f"\n{script}\n"),
        words=[search_words(run) for run in data.runs],
        first_panels=FIRST_PANELS,
        rule=RULE,
        blob=blob(data, view.catalogue),
        paper_entropy=paper_bars(),
        entropy_legend=list(GROUPS.values()),
        sampling=[sampling_words(run) for run in data.runs],
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def versions() -> dict[str, str]:
    """Versions of Python and packages that built the page."""
    found = {"Python": platform.python_version()}
    for name in ("unite", "torch", "mlflow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a checkout that is not installed
    return found


def _commits(data: Collected) -> list[str]:
    """Commits that the runs were made with, shortened; a star where files had changed."""
    found = dict.fromkeys(
        info.tags["git_commit"][:9] + ("*" if info.tags.get("git_dirty") == "true" else "")
        for run in data.runs
        for info in run.infos
        if info.tags.get("git_commit", "unknown") != "unknown"
    )
    return list(found)


def search_words(run: ReportRun) -> str:
    """Text that the filter searches, in small letters."""
    facts = [f"{FACTS[name]} {run.info.params[name]}" for name in FACTS if name in run.info.params]
    trials = [f"{info.name} {info.tags.get('axis', '')}" for info in run.trials]
    recipe = run.info.tags.get("recipe", "")
    words = [run.name, run.folder_name, recipe, run.info.status, run.unfinished, *facts, *trials]
    return " ".join(words).lower()


def sampling_words(run: ReportRun) -> str:
    """Sampler of a run in words, from its config: it tells apart grids of different samplers."""
    params = run.info.params
    solver = params.get("sampling.solver")
    if solver is None:
        return ""
    steps = "" if solver == "dopri5" else f", {params.get('sampling.num_steps', '?')} steps"
    return f"{solver}{steps}, guidance {params.get('sampling.cfg_scale', '?')}"


def blob(data: Collected, catalogue: Catalogue) -> dict[str, Any]:
    """Data of the dialogs: runs, cards, and each protocol once."""
    return {
        "runs": [_run(run, index, catalogue) for index, run in enumerate(data.runs)],
        "cards": [_card(entry) for entry in catalogue.entries],
        "protocols": {
            f"{suite}/{metric}": {
                letter: _protocol(suite, protocol) for letter, protocol in found.items()
            }
            for (suite, metric), found in catalogue.protocols.items()
        },
        "logged": {name: logged()[name] for name in logged_columns()},
    }


def _protocol(suite: str, protocol: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a protocol that mean something, as text."""
    unused = {} if suite.partition("-")[0] == "generation" else SAMPLER
    drawn = {"seed"} if protocol.get("num_samples") else set()
    return {
        name: value if isinstance(value, str) else shown(value)
        for name, value in protocol.items()
        if (value not in ("", 0, None) or name in drawn) and value != unused.get(name)
    }


def _card(entry: Entry) -> dict[str, Any]:
    card, paper = entry.card, entry.row.paper
    return {
        "run": entry.run,
        "suite": card.suite,
        "metric": card.metric,
        "title": shown_name(card.metric),
        "text": entry.text,
        "value": card.value,
        "better": better_words(card.metric),
        "letter": entry.letter,
        "newest": entry.newest,
        "note": entry.row.note,
        "outcomes": {
            name: shown(getattr(card, name))
            for name in sorted(OUTCOMES - {"value"})
            if getattr(card, name)
        },
        "paper": paper and {"text": number(paper.value), "source": paper.source},
    }


def _run(run: ReportRun, index: int, catalogue: Catalogue) -> dict[str, Any]:
    params = run.info.params
    return {
        "name": run.name,
        "folder": run.folder,
        "reachable": run.reachable,
        "status": run.info.status.lower(),
        "recipe": run.info.tags.get("recipe", ""),
        "id": run.info.run_id,
        "facts": {words: params[name] for name, words in FACTS.items() if name in params},
        "trials": [info.name for info in run.trials],
        "problems": run.problems,
        "cards": [entry.id for entry in catalogue.of_run(index)],
    }
