"""Trainers in the test's own process: made for a run, stopped and continued."""

from __future__ import annotations

from dataclasses import replace

import torch

from unite.checkpoints.store import latest, read_checkpoint
from unite.config.schema import RunConfig
from unite.data.loader import local_reader
from unite.tracking import Tracker
from unite.training.loop import Trainer
from unite.training.parallelize import World
from unite.training.runs import Run, begin, open_run
from unite.training.setup import Job, build_trainer


def trainer_of(config: RunConfig | Run, world: World | None = None) -> Trainer:
    """A trainer of a run, which goes on where the run's last checkpoint ends."""
    run = config if isinstance(config, Run) else open_run(config)
    begin(run)
    return build_trainer(Job.of(run), world or World(), Tracker(), local_reader)


def trained(config: RunConfig | Run) -> Trainer:
    """A trainer that has run to its end, or to where it was asked to stop."""
    trainer = trainer_of(config)
    trainer.run()
    trainer.stream.close()
    return trainer


def stopped_at(images: int, config: RunConfig) -> Trainer:
    """A trainer that was asked to stop after so many images, and did."""
    trainer = trainer_of(config)
    trainer.requests = lambda: trainer.images >= images
    assert trainer.run()["stopped"]
    trainer.stream.close()
    return trainer


def straight_and_continued(config: RunConfig, *, stop: int) -> tuple[Trainer, Trainer]:
    """A run in one go and the same in two; fails where their weights differ in a bit."""
    straight = trained(replace(config, name="straight"))
    stopped_at(stop, config)
    continued = trained(config)
    left, right = (read_checkpoint(latest(each.writer.run)).parts for each in (straight, continued))
    for name, tensor in left["model"].items():
        assert torch.equal(tensor, right["model"][name]), name
    return straight, continued
