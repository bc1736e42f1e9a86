"""The training loop in one process: resume to the bit, guards, stops, failing storage."""

from __future__ import annotations

import math
import time

import pytest
import torch

from unite.checkpoints.store import (
    CheckpointError,
    committed,
    folder_of,
    latest,
    read_checkpoint,
)
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.data.bad_rows import BadDataError
from unite.data.decode import Batch
from unite.runs import STOP_FILE
from unite.storage import StorageError, Store
from unite.training.interruptions import Interruption, read_interruptions
from unite.training.loop import Plan
from unite.training.readout import NonFiniteError
from unite.training.requests import Request
from unite.training.runs import open_run, request_stop


def final_parts(config: RunConfig) -> dict[str, dict[str, torch.Tensor]]:
    folder = latest(open_run(config).folder)
    assert folder is not None
    return read_checkpoint(folder).parts


def read(run: Store) -> dict[str, dict[str, torch.Tensor]]:
    return read_checkpoint(latest(run)).parts


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for part in left:
        assert left[part].keys() == right[part].keys()
        for name in left[part]:
            assert torch.equal(left[part][name], right[part][name]), (part, name)


def test_a_run_reaches_its_plan_and_learns(smoke, make_trainer):
    trainer = make_trainer(smoke)
    summary = trainer.run()
    assert summary["images"] == summary["total_images"] == 8 * 32
    losses = [row["loss/l1"] for row in trainer.history if "loss/l1" in row]
    assert losses[-1] < losses[0]
    assert set(trainer.metrics) >= {"eval/psnr", "latent/std", "grad/norm", "epoch"}


def test_plan_covers_the_epochs_in_whole_steps(smoke):
    plan = Plan.of(replace(smoke, {"training.epochs": 1.0}), 1500)
    assert plan.total_images == math.ceil(1500 / 32) * 32


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_run_stopped_anywhere_and_resumed_equals_a_straight_run(smoke, make_trainer, stop_after):
    straight = make_trainer(replace(smoke, {"name": "straight"}))
    straight.run()

    broken = replace(smoke, {"name": "broken"})
    first = make_trainer(broken)
    calls = iter(range(1000))
    first.requests = lambda: next(calls) >= stop_after - 1
    assert first.run()["stopped"]
    assert first.images == stop_after * 32
    second = make_trainer(broken)
    assert second.images == stop_after * 32
    second.run()

    assert_same(final_parts(replace(smoke, {"name": "straight"})), final_parts(broken))
    assert second.history == straight.history


def test_a_run_that_lost_its_process_repeats_from_the_last_checkpoint(smoke, make_trainer):
    straight = make_trainer(replace(smoke, {"name": "straight"}))
    straight.run()
    lost = replace(smoke, {"name": "lost"})
    first = make_trainer(lost)
    for _ in range(5):  # saves at 2 and 4, then steps that nobody saved
        first.train_step(next(first.stream))
        first.images += 32
        if first.images % 64 == 0:
            first._save()
    first.writer.wait()
    second = make_trainer(lost)
    assert second.images == 4 * 32
    second.run()
    assert_same(final_parts(replace(smoke, {"name": "straight"})), final_parts(lost))


def test_a_slow_copy_holds_the_weights_of_its_own_step(smoke, make_trainer):
    kept = {"checkpoint.every_images": 32}
    at_once = {**kept, "name": "plain", "checkpoint.asynchronous": False}
    plain = make_trainer(replace(smoke, at_once))
    plain.run()
    trainer = make_trainer(replace(smoke, {**kept, "name": "slow"}))
    make = trainer.writer._copy_of

    def slow(parts):
        copy = make(parts)
        return lambda: time.sleep(0.1) or copy()

    trainer.writer._copy_of = slow
    trainer.run()
    found = committed(trainer.writer.run)
    assert found == committed(plain.writer.run) and len(found) == 8
    for images in found:
        left, right = (read_checkpoint(folder_of(t.writer.run, images)) for t in (plain, trainer))
        assert_same(left.parts, right.parts)


def test_a_stop_request_in_the_run_folder_saves_and_ends(smoke, make_trainer, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.01)
    trainer = make_trainer(replace(smoke, {"training.epochs": 1000.0}))
    request_stop(trainer.writer.run)
    summary = trainer.run()
    assert summary["stopped"]
    assert committed(trainer.writer.run)[-1] == summary["images"]


def test_a_notice_is_saved_at_once_and_left_without_a_lost_step(smoke, make_trainer):
    """The group that goes on computes what one without a notice would have computed."""
    straight = make_trainer(replace(smoke, {"name": "straight"}))
    straight.run()
    warned = replace(smoke, {"name": "warned"})
    first = make_trainer(warned)
    answers = iter([Request.NONE, Request.NONE, Request.SAVE, Request.NONE, Request.LEAVE])
    first.requests = lambda: next(answers)
    saved, save = [], first.writer.save
    first.writer.save = lambda parts, state, **how: (
        saved.append(state["step"]) or save(parts, state, **how)
    )
    summary = first.run()
    assert summary["leaving"] and not summary["stopped"]
    # Every two steps as always, after the third for the notice, after the fifth to leave.
    assert saved == [2, 3, 4, 5]
    assert [images // 32 for images in committed(first.writer.run)] == [2, 4, 5]
    second = make_trainer(warned)
    assert second.images == first.images == 5 * 32
    assert not second.run()["leaving"]
    assert_same(final_parts(replace(smoke, {"name": "straight"})), final_parts(warned))
    assert second.history == straight.history


def test_a_resumed_run_tells_what_was_computed_again_and_how_long_nothing_was(smoke, make_trainer):
    run = make_trainer(smoke)
    run.requests = lambda: Request.STOP if run.images == 3 * 32 else Request.NONE
    run.run()
    resumed = make_trainer(smoke)
    logged = []
    resumed.tracker.log = lambda metrics, step: logged.append((step, dict(metrics)))
    resumed.interrupted = Interruption(reason="lost", time=time.time() - 7, seen=6 * 32)
    resumed.run()
    ((step, told),) = [row for row in logged if "interruptions/count" in row[1]]
    assert step == 5 * 32
    assert told["interruptions/count"] == 1 and told["interruptions/wasted_images"] == 2 * 32
    assert told["interruptions/seconds"] >= 7
    (kept,) = read_interruptions(resumed.writer.run)
    assert (kept.seen, kept.resumed, kept.reason) == (6 * 32, 4 * 32, "lost")


def test_room_for_a_larger_group_is_made_at_the_next_checkpoint(smoke, make_trainer):
    trainer = make_trainer(smoke)
    trainer.requests = lambda: Request.MAKE_ROOM
    summary = trainer.run()
    assert summary["leaving"] and summary["images"] == 2 * 32
    assert committed(trainer.writer.run) == [2 * 32]


def test_a_run_that_is_done_neither_stops_nor_leaves(smoke, make_trainer):
    trainer = make_trainer(smoke)
    trainer.requests = lambda: Request.LEAVE if trainer.images == 7 * 32 else Request.NONE
    summary = trainer.run()
    assert summary["images"] == 8 * 32 and not summary["leaving"]


def test_a_store_that_hiccups_is_asked_again_for_a_stop(smoke, make_trainer, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.01)
    answers = iter([StorageError("a hiccup"), StorageError("another")])
    exists = Store.exists

    def hiccup(self: Store, name: str = "") -> bool:
        if name == STOP_FILE and (error := next(answers, None)):
            raise error
        return exists(self, name)

    monkeypatch.setattr(Store, "exists", hiccup)
    trainer = make_trainer(replace(smoke, {"training.epochs": 1000.0}))
    request_stop(trainer.writer.run)
    assert trainer.run()["stopped"]


def test_a_non_finite_step_changes_nothing_and_names_the_last_good_checkpoint(smoke, make_trainer):
    trainer = make_trainer(smoke)
    trainer.train_step(next(trainer.stream))
    trainer.images += 32
    trainer._save()
    trainer.images += 32
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    momentum = {k: v.clone() for k, v in trainer.objective.members.state_tensors().items()}
    batch = next(trainer.stream)
    trainer.objective.step.reconstruction = lambda *_: {
        "l1": torch.tensor(math.nan, requires_grad=True)
    }
    with pytest.raises(NonFiniteError, match=r"step 2 .*loss/l1 nan.*000000000032\."):
        trainer.train_step(batch)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, value in trainer.objective.members.state_tensors().items():
        assert torch.equal(value, momentum[name])


def test_a_full_disk_leaves_the_last_good_checkpoint(smoke, make_trainer, monkeypatch):
    trainer = make_trainer(smoke)
    real = Store.write

    def full(self: Store, name: str, data: object) -> None:
        if trainer.images >= 224:  # whatever it is: progress, checkpoints, metrics
            raise StorageError(f"cannot write {self.uri}/{name}: No space left on device")
        real(self, name, data)

    monkeypatch.setattr(Store, "write", full)
    steps = trainer.train_step

    def one_after_another(batch):
        trainer.writer.wait()
        return steps(batch)

    trainer.train_step = one_after_another
    with pytest.raises(CheckpointError, match="No space left on device.*intact"):
        trainer.run()
    run = trainer.writer.run
    assert trainer.images == 256, "training itself must reach its end"
    assert committed(run) == [64, 128, 192]
    assert not folder_of(run, 256).exists()
    assert read_checkpoint(folder_of(run, 192)).images == 192


def test_the_best_checkpoint_is_one_that_was_evaluated(smoke, make_trainer):
    changes = {
        "evaluation.every_images": 128,
        "checkpoint.every_images": 32,
        "checkpoint.keep_last": 1,
        "checkpoint.keep_best": 1,
    }
    trainer = make_trainer(replace(smoke, changes))
    scores = iter([10.0, 30.0, 20.0])  # before the first step, halfway, at the end
    evaluate = trainer._evaluate

    def scored():
        evaluate()
        trainer.metrics["eval/psnr"] = next(scores)

    trainer._evaluate = scored
    trainer.run()
    assert committed(trainer.writer.run) == [128, 256]


def test_a_best_metric_whose_smaller_values_are_better_counts_negatively(smoke, make_trainer):
    trainer = make_trainer(smoke)
    trainer.model.domain.best_metric = "l1"
    trainer.metrics = {"eval/l1": 0.25, "eval/psnr": 30.0}
    trainer.evaluated_at = trainer.images
    assert trainer._score() == -0.25


def test_a_failed_clean_up_does_not_fail_the_checkpoint(smoke, make_trainer, monkeypatch, caplog):
    trainer = make_trainer(replace(smoke, {"checkpoint.keep_last": 1}))

    def refuse(self: Store) -> None:
        raise StorageError("cannot delete")

    monkeypatch.setattr("unite.checkpoints.store.CheckpointWriter._prune", refuse)
    trainer.run()
    assert committed(trainer.writer.run)[-1] == 256
    assert "old checkpoints were not deleted" in caplog.text


def test_an_older_checkpoint_begins_a_branch(smoke, make_trainer):
    trainer = make_trainer(replace(smoke, {"name": "trunk"}))
    trainer.run()
    trunk = trainer.writer.run
    older = folder_of(trunk, 128)
    branch = open_run(smoke, resume=older.uri)
    assert branch.folder.name == "trunk-from-128"
    assert branch.resume_from == older
    continued = make_trainer(smoke, resume=older.uri)
    assert continued.images == 128
    continued.run()
    assert committed(trunk) == [64, 128, 192, 256]
    assert committed(continued.writer.run) == [192, 256]
    assert_same(final_parts(replace(smoke, {"name": "trunk"})), read(continued.writer.run))
    again = open_run(smoke, resume=older.uri)
    assert again.resume_from == folder_of(branch.folder, 256), "the same command continues"


def test_each_config_has_a_branch_of_its_own(smoke, make_trainer):
    make_trainer(replace(smoke, {"name": "trunk"})).run()
    older = folder_of(Store.open(smoke.storage) / "trunk", 128)
    how = {"resume": older.uri, "allow_changes": True}
    slower, faster = (replace(smoke, {"optim.lr": lr}) for lr in (1e-3, 8e-3))
    make_trainer(slower, **how).run()
    first, second = open_run(slower, **how), open_run(faster, **how)
    assert first.resume_from == folder_of(first.folder, 256), "the same command continues"
    assert second.folder.name == "trunk-from-128-2"
    assert second.resume_from == older
    make_trainer(faster, **how)
    assert open_run(faster, **how).folder == second.folder
    assert open_run(smoke, resume=older.uri).folder.name == "trunk-from-128-3"
    changed = open_run(faster, resume=first.folder.name, allow_changes=True)
    assert changed.folder == first.folder, "a branch can be changed by its name"


def test_held_out_images_of_which_none_can_be_read_are_said(smoke, make_trainer):
    trainer = make_trainer(smoke)
    batch = next(iter(trainer.eval_batches()))
    fields = {name: values[:0] for name, values in batch.fields.items()}
    nothing = Batch(rows_B=batch.rows_B[:0], epochs_B=batch.epochs_B[:0], fields=fields)
    trainer.eval_batches = lambda: iter([nothing])
    with pytest.raises(BadDataError, match="none of the first images of data.eval can be read"):
        trainer.run()


def test_a_checkpoint_of_another_architecture_is_refused_by_key(smoke, make_trainer):
    make_trainer(replace(smoke, {"name": "run"})).run()
    deeper = replace(smoke, {"name": "run", "model.encoder.depth": 3})
    with pytest.raises(CheckpointError, match=r"another architecture. missing: .*blocks\.2"):
        make_trainer(deeper, allow_changes=True)


def test_a_checkpoint_whose_file_was_cut_is_refused_by_name(smoke, make_trainer):
    trainer = make_trainer(smoke)
    trainer.run()
    folder = latest(trainer.writer.run)
    folder.write("ema.safetensors", folder.read("ema.safetensors")[:-8])
    with pytest.raises(CheckpointError, match="ema.safetensors does not match"):
        read_checkpoint(folder)


def test_the_checkpoint_lag_counts_from_the_last_commit(smoke, make_trainer):
    changes = {"checkpoint.every_images": 96, "checkpoint.asynchronous": False}
    config = replace(smoke, {**changes, "training.log_every_steps": 1})
    lags: list[float] = []

    def log(metrics, step) -> None:
        lags.extend([metrics["checkpoint/lag_images"]] if "loss/total" in metrics else [])

    first = make_trainer(config)
    first.tracker.log = log
    first.requests = lambda: first.images + 32 == 128
    first.run()
    assert lags == [32, 64, 96, 32]
    lags.clear()
    second = make_trainer(config)
    second.tracker.log = log
    second.run()
    assert lags == [32, 64, 32, 64]


def test_resuming_with_another_config_names_the_changed_fields(smoke, make_trainer):
    named = replace(smoke, {"name": "one"})
    make_trainer(named).run()
    changed = replace(named, {"optim.lr": 0.5})
    with pytest.raises(ValueError, match=r"optim.lr: 0.004 -> 0.5"):
        open_run(changed)
    assert open_run(changed, allow_changes=True).resume_from is not None
    assert open_run(changed, resume="never").folder.name == "one-2"
    # Where it runs is not what it computes.
    assert open_run(replace(named, {"cluster.num_workers": 2})).resume_from is not None


def test_other_data_than_the_checkpoint_was_trained_on_is_refused(smoke, make_trainer, monkeypatch):
    trainer = make_trainer(smoke)
    trainer.manifest_digest = "of-other-data"
    trainer.run()
    with pytest.raises(CheckpointError, match="of-other-data"):
        make_trainer(smoke)


def test_a_collapsed_latent_is_named_with_its_cure(smoke, make_trainer, caplog, monkeypatch):
    monkeypatch.setattr("unite.training.monitors.GRACE_STEPS", 1)  # the run has few steps
    trainer = make_trainer(replace(smoke, {"training.collapse_std": 1e9}))
    trainer.run()
    warnings = [r.message for r in caplog.records if "latent/std" in r.message]
    assert len(warnings) == 1
    assert "flow.reduction mean" in warnings[0]


def test_a_checkpoint_of_other_noise_is_continued_with_a_warning(smoke, make_trainer, caplog):
    trainer = make_trainer(smoke)
    trainer.requests = lambda: trainer.images >= 64
    trainer.run()
    make_trainer(smoke)
    assert "noise" not in caplog.text
    folder = latest(trainer.writer.run)
    state, marker = folder.read_json("state.json"), folder.read_json("COMMITTED")
    del state["noise"]  # as of the first version, which did not write it
    folder.write_json("state.json", state)
    marker["sha256"]["state.json"] = folder.digest("state.json")
    folder.write_json("COMMITTED", marker)
    assert make_trainer(smoke).images == 96
    assert "after 96 images was trained on noise of another version" in caplog.text
