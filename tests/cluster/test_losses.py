"""Lost groups: what they cost, what they do not, and an object store that is away."""

from __future__ import annotations

import threading
import time

import pytest
from ray.exceptions import ActorDiedError

from unite import network
from unite.cluster.losses import Losses, Outage, TrainingError
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.storage import StorageError, Store
from unite.training.progress import FILE
from unite.training.setup import Job


class LostError(Exception):
    """What a fit raises for a lost group, with the errors of its workers."""

    def __init__(self, *failures):
        self.worker_failures = dict(enumerate(failures))


def test_an_outage_of_the_storage_costs_no_restart(stumbling_s3, monkeypatch):
    uri, proxy = stumbling_s3
    monkeypatch.setattr(network, "FIRST_PAUSE_S", 0.05)
    config = replace(recipe("smoke"), {"checkpoint.patience_s": 60.0})
    outage = Outage(Job(config=config, folder=Store.open(f"{uri}/run")))
    assert not outage.over(LostError(ValueError("its own"))), "the store answers: no outage"
    proxy.mode = "refuse"

    def come_back():
        while proxy.spoilt < 6:  # the first look, and some of those that wait
            time.sleep(0.05)
        proxy.mode = ""

    threading.Thread(target=come_back, daemon=True).start()
    assert outage.over(LostError(ConnectionError("whatever died of it")))
    assert proxy.mode == "" and proxy.spoilt > 0
    wrapped = RuntimeError("ray")
    wrapped.__cause__ = StorageError("cannot write x: Could not connect to the endpoint URL")
    assert outage.over(LostError(wrapped)), "it came back before anybody looked"


def test_storage_that_stays_away_ends_the_run(stumbling_s3, monkeypatch):
    uri, proxy = stumbling_s3
    monkeypatch.setattr(network, "FIRST_PAUSE_S", 0.05)
    config = replace(recipe("smoke"), {"checkpoint.patience_s": 0.1})
    outage = Outage(Job(config=config, folder=Store.open(f"{uri}/run")))
    proxy.mode = "refuse"
    with pytest.raises(TrainingError, match=r"checkpoint\.patience_s = 0\.1 s; the same command"):
        outage.over(LostError(ConnectionError("whatever died of it")))


def test_losses_count_only_without_a_new_checkpoint_between_them(untrained_run, tmp_path):
    """Days of spot nodes end no run that gets on; a run that does not is ended."""
    folder = untrained_run(tmp_path, images=(64,))
    config = replace(recipe("smoke"), {"cluster.max_failures": 2})
    losses, lost = Losses(Job(config=config, folder=folder)), LostError(ConnectionError("away"))
    losses.charge(lost)
    losses.charge(lost)
    untrained_run(tmp_path, images=(64, 128))
    losses.charge(lost)
    losses.charge(lost)
    with pytest.raises(TrainingError, match=r"lost 3 times in a row .* cluster\.max_failures = 2"):
        losses.charge(lost)


class ControllerLostError(Exception):
    """What a fit raises when a worker died while Ray Train's controller was starting it."""

    def __init__(self, *, at_its_start=False):
        self.controller_failure = ActorDiedError()
        self.controller_failure._actor_init_failed = at_its_start


def test_a_start_that_ends_before_anything_is_computed_costs_nothing_once(untrained_run, tmp_path):
    config = replace(recipe("smoke"), {"cluster.max_failures": 9})
    folder = untrained_run(tmp_path, images=(64,))
    losses = Losses(Job(config=config, folder=folder))
    published = iter(range(99))

    def counted(error, *, trained=False):
        if trained:
            folder.write_json(FILE, {"state": "training", "images": next(published)})
        losses.charge(error)
        return losses.lost

    worker, controller = LostError(ConnectionError("away")), ControllerLostError()
    assert counted(controller) == 0, "the first start of all"
    assert counted(controller) == 1, "once alone"
    assert counted(worker, trained=True) == 2
    assert counted(ControllerLostError(at_its_start=True)) == 3, "an error of its own start"
    assert counted(controller) == 3, "a node that is just gone"
    assert counted(controller) == 4, "once alone"
    assert counted(ActorDiedError()) == 5, "the controller itself, and still nothing computed"
    assert counted(ActorDiedError(), trained=True) == 6, "what was trained is lost"
    assert counted(ActorDiedError()) == 6, "the node that is just gone"
    assert counted(worker) == 7, "a worker that began"


def test_a_limit_of_no_losses_allows_a_start_that_failed(untrained_run, tmp_path):
    config = replace(recipe("smoke"), {"cluster.max_failures": 0})
    losses = Losses(Job(config=config, folder=untrained_run(tmp_path, images=(64,))))
    losses.charge(ActorDiedError())
    with pytest.raises(TrainingError, match=r"lost 1 time in a row"):
        losses.charge(ActorDiedError())


def test_a_lost_worker_on_a_disk_is_no_outage(tmp_path):
    outage = Outage(Job(config=recipe("smoke"), folder=Store.open(tmp_path)))
    assert not outage.over(LostError(StorageError("cannot write x: timed out")))


def test_the_place_that_is_gone_on_from_is_told(untrained_run, tmp_path, caplog):
    """Lines of another process are shown once each: two losses of one kind must differ."""
    config = replace(recipe("smoke"), {"cluster.max_failures": 2})
    losses = Losses(Job(config=config, folder=Store.open(tmp_path / "new")))
    losses.charge(LostError(ConnectionError("away")))
    folder = untrained_run(tmp_path, images=(1024,))
    losses.job = Job(config=config, folder=folder)
    losses.charge(LostError(ConnectionError("away")))
    assert caplog.messages == [
        "a worker was lost (rank 0: ConnectionError); restarting new from the start, 1 of 2",
        "a worker was lost (rank 0: ConnectionError); "
        f"restarting {folder.name} from the checkpoint after 1,024, 1 of 2",
    ]
