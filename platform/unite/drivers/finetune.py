"""The driver of a decoder's fine-tuning: find the parent, check, train, show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unite.config.finetune_checks import finetune_warnings
from unite.domains import build_domain
from unite.drivers.train import prepare_inputs
from unite.training.adversarial import require_adversarial
from unite.training.finetune import require_same_data
from unite.training.finetune_arguments import Request
from unite.training.runs import Run, open_run
from unite.training.schedule import Plan
from unite.training.setup import open_split
from unite.words import count


def prepare(request: Request) -> Run:
    """Check everything that the fine-tuning names; ValueError or StorageError otherwise."""
    config = request.config
    require_adversarial(build_domain(config.domain))
    run = open_run(config, resume=request.arguments.resume)
    prepare_inputs(run.config)
    require_same_data(request.parent, open_split(run.config, "train"))
    return replace(run, start_from=request.parent.place)


def notes(request: Request, run: Run) -> Sequence[str]:
    """Lines about the parent and the adversary, and warnings, for the plan."""
    parent, given = request.config.parent, request.config.adversarial
    plan = Plan.of(run.config, open_split(run.config, "train").num_rows)
    adversary = f"{given.loss}, weight {given.weight:g} ({given.mode})"
    lines = [
        f"parent: {parent.run} after {count(parent.images, 'image')} (checkpoint {parent.digest})",
        f"adversary: {adversary if given.weight else 'none, the control'}",
    ]
    warnings = finetune_warnings(request.config, num_steps=plan.total_images // plan.batch_size)
    return [*lines, *(f"warning: {warning}" for warning in warnings)]
