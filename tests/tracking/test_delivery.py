"""Every step reaches the run once, whatever happens on the way."""

from __future__ import annotations

import pytest

from unite.tracking.delivery import Delivery
from unite.tracking.images import encode_image
from unite.tracking.spool import Spool, Target


@pytest.fixture
def spool(tmp_path, handle) -> Spool:
    spool = Spool(tmp_path)
    spool.aim(Target(handle))
    return spool


def deliver(delivery: Delivery, beats: int = 100) -> int:
    """Beats until nothing is left; failures are ridden out, as the sender does it."""
    for beat in range(beats):
        try:
            if not delivery.step():
                return beat
        except OSError:
            pass
    return beats


def log(spool: Spool, *steps: int) -> None:
    for step in steps:
        spool.log.append({"loss/total": step / 2, "lr": 0.1}, step)


def test_a_file_that_a_push_beside_the_training_removes_is_no_failure(spool, fake, monkeypatch):
    spool.put_file("card.json", b"{}")
    monkeypatch.setattr(fake, "upload", lambda path, name: path.unlink())
    delivery = Delivery(spool)
    assert [delivery.step() for _ in range(3)] == [True, True, False]
    assert delivery.sent_files == 1 and not delivery.pending()


def test_points_arrive_in_one_request_with_their_time(spool, fake):
    log(spool, 8, 16, 24)
    deliver(Delivery(spool))
    assert fake.calls == ["attach", "send"]
    assert fake.steps("loss/total") == fake.steps("lr") == [8, 16, 24]
    times = [point.time_ms for point in spool.log.read()]
    assert [time for key, _, time, _ in fake.points if key == "lr"] == times


def test_each_step_makes_at_most_one_request(spool, fake, gradient):
    delivery = Delivery(spool)
    for step in range(1000):
        log(spool, step)
    for name, data in encode_image("samples", gradient, 8, 1).items():
        spool.put_file(name, data)
    spool.put_file("card.json", b"{}")
    while delivery.pending():
        before = len(fake.calls)
        delivery.step()
        assert len(fake.calls) - before <= 1
    assert len(fake.points) == 2000
    assert len(fake.artifacts) == 3


def test_a_request_holds_at_most_a_thousand_points(spool, fake):
    for step in range(1500):
        log(spool, step)
    delivery = Delivery(spool)
    delivery.step(), delivery.step()
    assert len(fake.points) == 1000


def test_what_was_logged_during_an_outage_is_replayed_in_order(spool, fake):
    delivery = Delivery(spool)
    log(spool, 8)
    deliver(delivery)
    fake.down = True
    log(spool, 16, 24)
    deliver(delivery, beats=3)
    fake.down = False
    log(spool, 32)
    deliver(delivery)
    assert fake.steps("lr") == [8, 16, 24, 32]


def test_points_whose_answer_got_lost_are_not_sent_again(spool, fake):
    delivery = Delivery(spool)
    log(spool, 8, 16)
    fake.loses_answers = True
    deliver(delivery, beats=2)
    fake.loses_answers = False
    log(spool, 24)
    deliver(delivery)
    assert fake.steps("lr") == [8, 16, 24]


def test_a_resumed_run_does_not_repeat_steps(tmp_path, spool, fake, handle):
    log(spool, 8, 16, 24)
    deliver(Delivery(spool))
    elsewhere = Spool(tmp_path / "other-node")
    elsewhere.aim(Target(handle))
    log(elsewhere, 16, 24, 32)
    elsewhere.log.append({"eval/psnr": 30.0}, 24)
    deliver(Delivery(elsewhere))
    assert fake.steps("lr") == [8, 16, 24, 32]
    assert fake.steps("eval/psnr") == [24]


def test_a_step_logged_twice_in_one_spool_is_sent_once(spool, fake):
    log(spool, 8, 16, 24, 16, 24, 32)
    deliver(Delivery(spool))
    assert fake.steps("lr") == [8, 16, 24, 32]


def test_images_are_tagged_removed_when_sent_and_not_repeated(spool, fake, gradient):
    def queue():
        for name, data in encode_image("samples", gradient, 8, 1).items():
            spool.put_file(name, data)

    queue()
    deliver(Delivery(spool))
    assert fake.tags == {"mlflow.loggedImages": "True"}
    assert len(fake.artifacts) == 2 and spool.files() == []
    queue()
    deliver(Delivery(spool))
    assert len(fake.artifacts) == 2 and spool.files() == []


def test_a_broken_artifact_store_does_not_hold_up_the_curves(spool, fake):
    fake.refuses_files = True
    spool.put_file("a.txt", b"a")
    delivery = Delivery(spool)
    for step in range(1200):
        log(spool, step)
    deliver(delivery, beats=10)
    assert len(fake.points) == 2400
    assert delivery.count() == (0, 1)


def test_a_refused_file_does_not_hold_up_the_others(spool, fake):
    fake.refused_name = "a.txt"
    for name in ("a.txt", "b.txt", "c.txt"):
        spool.put_file(name, b"")
    deliver(Delivery(spool), beats=10)
    assert set(fake.artifacts) == {"b.txt", "c.txt"}


def test_a_file_that_is_replaced_while_it_is_sent_is_sent_again(spool, fake, monkeypatch):
    spool.put_file("report.html", b"old")
    upload = fake.upload

    def slow_upload(path, name):
        upload(path, name)
        if fake.artifacts[name] == b"old":
            spool.put_file("report.html", b"new")

    monkeypatch.setattr(fake, "upload", slow_upload)
    deliver(Delivery(spool))
    assert fake.artifacts == {"report.html": b"new"}
    assert spool.files() == []


def test_results_may_come_in_any_order(spool, fake, handle):
    spool.aim(Target(handle, training=False, tags={"suite": "generation"}))
    spool.log.append({"eval/generation/fid": 9.0}, 200)
    spool.log.append({"eval/generation/fid": 12.0}, 100)
    deliver(Delivery(spool))
    assert fake.steps("eval/generation/fid") == [200, 100]
    assert fake.tags == {"suite": "generation"}
