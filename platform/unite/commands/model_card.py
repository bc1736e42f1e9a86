"""Model card of an export: README.md, and its metric cards as cards.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unite.checkpoints.store import STATE_FILE, read_state
from unite.commands.checkpoints import architecture
from unite.data.parts import parts_of
from unite.evaluation.card import MetricCard
from unite.evaluation.report import markdown
from unite.evaluation.results import RESULTS_FILE, Outcome, read_outcomes
from unite.evaluation.target import Subject
from unite.models.unite import UNITE
from unite.sampling.protocol import describe
from unite.sampling.serving import serving_for
from unite.storage import Store
from unite.words import count

PAPER = "https://arxiv.org/abs/2603.22283"
ABOUT = """\
UNITE ([arXiv 2603.22283]({paper})): one Generative Encoder
that is tokenizer and latent denoiser at once, and a decoder. {about}
"""
USE = """\
## Use

```python
import unite

model = unite.load("FOLDER")  # this folder, or its s3:// URI
z_BKD, samples = unite.sample(
    model, {conditions}, cfg_scale={cfg_scale:g}, solver="{solver}", num_steps={num_steps}
)
samples = model.decode(z_BKD)
```

{example}

Parameters: `cfg_scale`, `num_steps`, `solver`, `seed`; one seed and row give one sample.
"""
LIMITS = """\
## Limits

- {limits}
- A sample can resemble training data; memorisation has not been measured.
- Numbers above hold for the protocol in `cards.json`; others are not comparable with them.
"""


def measured(subject: Subject) -> list[Outcome]:
    """Outcomes that were measured on exactly these weights; empty without any."""
    home = Store.open(subject.home)
    if not home.is_file(RESULTS_FILE):
        return []
    whose = (subject.digest, "ema" if subject.ema else "raw")
    found = []
    for outcome in read_outcomes(home):
        cards = ((row, row.card) for row in outcome.rows)
        rows = tuple(row for row, card in cards if (card.checkpoint, card.weights) == whose)
        if rows:
            found.append(replace(outcome, rows=rows))
    return found


def find_card(outcomes: Sequence[Outcome], metric: str, command: str) -> MetricCard:
    """The card of a metric; ValueError names the existing ones and the command that measures it."""
    cards = [row.card for outcome in outcomes for row in outcome.rows]
    if not cards:
        raise ValueError(f"these weights have not been evaluated: run {command}")
    for card in cards:
        if card.metric == metric:
            return card
    names = ", ".join(dict.fromkeys(card.metric for card in cards))
    raise ValueError(
        f"these weights have no card of {metric!r}. Measured so far: {names}. Everything else: "
        f"{command}"
    )


def cards_content(subject: Subject, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Content of cards.json: identity of the weights, and their cards."""
    return {
        "checkpoint": subject.digest,
        "weights": "ema" if subject.ema else "raw",
        "cards": [row.card.to_dict() for outcome in outcomes for row in outcome.rows],
    }


def title(subject: Subject) -> str:
    """Title: the recipe, the images seen and the kind of weights."""
    weights = "averaged" if subject.ema else "raw"
    noun = subject.config.domain.kind.removesuffix("s")
    seen = f"after {count(subject.images, noun)}, " if subject.images else ""
    return f"UNITE, {subject.config.recipe}, {seen}{weights} weights"


def model_card(subject: Subject, model: UNITE, outcomes: Sequence[Outcome], command: str) -> str:
    """Text of README.md. `command` makes the measurements that are missing."""
    config = subject.config
    served = serving_for(config.domain)
    words = {
        "paper": PAPER,
        "about": served.about,
        "example": served.example,
        "limits": served.limits,
        "conditions": "labels" if config.domain.num_classes else "num=16",
        "cfg_scale": config.sampling.cfg_scale,
        "solver": config.sampling.solver,
        "num_steps": config.sampling.num_steps,
    }
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(subject, model).items())
    parts = [
        f"# {title(subject)}\n",
        ABOUT.format(**words),
        f"| | |\n| --- | --- |\n{facts}\n",
        "## Metrics\n",
        _metrics(outcomes, command),
        USE.format(**words),
        LIMITS.format(**words),
    ]
    return "\n".join(parts)


def _facts(subject: Subject, model: UNITE) -> dict[str, str]:
    config = subject.config
    parts = {name: _millions(module) for name, module in model.named_children()}
    return {
        "checkpoint": subject.digest,
        "weights": "average over training" if subject.ema else "of the last step",
        f"training {config.domain.kind} seen": f"{subject.images:,}"
        if subject.images
        else "not known",
        "training data": _data(subject),
        **architecture(config.domain, config.model),
        "parameters": f"{_millions(model)} ("
        + ", ".join(f"{name} {count}" for name, count in parts.items())
        + ")",
        "flow": f"F = {config.flow.steps}, {config.flow.timesteps} t, {config.flow.loss_space} "
        f"loss, shift {config.flow.shift:g}",
        "sampling by default": describe(config.sampling),
        "everything else": "config.json",
    }


def _data(subject: Subject) -> str:
    """The data set's name and, for a checkpoint, the digest of its manifest."""
    places = parts_of(subject.config.data.train)
    name = " and ".join(place.rstrip("/").rsplit("/", 1)[-1] for place in places)
    checkpoint = Store.open(subject.uri)
    if checkpoint.is_file() or not checkpoint.is_file(STATE_FILE):
        return name or "not known"
    return f"{name}, manifest {read_state(checkpoint, 'manifest_digest')['manifest_digest'][:16]}"


def _millions(module: Any) -> str:
    return f"{sum(tensor.numel() for tensor in module.parameters()) / 1e6:.3g}M"


def _metrics(outcomes: Sequence[Outcome], command: str) -> str:
    if not outcomes:
        return f"None yet: `{command}`, then export again.\n"
    protocols = "\n".join(f"- {outcome.suite}: {outcome.protocol}" for outcome in outcomes)
    return (
        f"{markdown(outcomes)}\nProtocols in short (`cards.json` has them in full):\n\n"
        f"{protocols}\n"
    )
