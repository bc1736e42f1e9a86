"""The ablation of the decoder's fine-tuning from end to end at a size that measures nothing."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from unite.ablation.decoder_gan import CONTROL, GE, PARENT, SETS
from unite.ablation.decoder_gan_options import GAN_SCALES, GanSweepOptions, gan_folder, settle
from unite.checkpoints.layout import MARKER, CheckpointError, latest
from unite.checkpoints.lease import BusyError, hold
from unite.config.finetune import ParentConfig
from unite.config.validate import validate
from unite.drivers import decoder_gan, decoder_gan_piece
from unite.drivers.decoder_gan import describe_runs, pieces_of
from unite.drivers.decoder_gan_piece import parent_config, piece_config, read_measured
from unite.runs import read_run_config
from unite.storage import Store
from unite.training.memory import checkpoint_bytes


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A settled sweep of one arm beside the control."""
    storage = str(tmp_path_factory.mktemp("storage"))
    return settle(GanSweepOptions(scale="smoke", arms=(GE,), num_workers=0, storage=storage))


@pytest.fixture(scope="module")
def swept(smoke):
    """The same, done: its options, the arms that it tuned, what it printed."""
    torch.set_num_threads(1)
    tuned, tune = [], decoder_gan_piece._tune
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(
            decoder_gan_piece, "_tune", lambda piece: tuned.append(piece.arm) or tune(piece)
        )
        assert decoder_gan.main(smoke) == 0
        once = out.getvalue()
        assert decoder_gan.main(smoke) == 0
    return SimpleNamespace(
        options=smoke, tuned=tuned, told=once, again=out.getvalue(), progress=error.getvalue()
    )


def test_the_smoke_sweep_writes_its_files_and_repeats_nothing(swept):
    assert "1 of 1 parent done: smoke-seed-0" in swept.progress
    assert "1 of 1 measurement done: smoke-seed-0" in swept.progress
    assert "2 of 2 fine-tunings done: smoke-seed-0-gan" in swept.progress
    assert swept.tuned == [CONTROL, GE]
    assert "| control |" in swept.told and "UNDECIDED: GE, trained lowers rfd" in swept.told
    out = gan_folder(swept.options)
    kept = Store.open(swept.options.storage) / "sweeps" / "decoder-gan-smoke"
    assert len((kept / "latents").list()) == SETS  # of the parent, for all arms
    wanted = {"decoder_gan.md", "decoder_gan.png", "decoder_gan.svg", "decoder_gan_images.png"}
    assert wanted <= set(out.list())
    assert set(swept.told.splitlines()[-1].removeprefix(f"{out}: ").split(", ")) == wanted
    assert swept.again == 2 * swept.told


def test_a_second_driver_is_refused_at_once(swept):
    folder = Store.open(swept.options.storage) / "sweeps" / "decoder-gan-smoke"
    with hold(folder, "sweep"), pytest.raises(BusyError, match="wait until it ends"):
        decoder_gan.main(swept.options)


def test_a_checkpoint_of_a_fine_tuning_takes_what_its_plan_says(swept):
    (run,) = (place for place in tuned_runs(swept) if "-gan-" in place.name)
    newest = latest(run)
    real = sum(newest.size(name) for name in newest.list())
    assert checkpoint_bytes(read_run_config(run.uri)) == pytest.approx(real, rel=0.1)


def tuned_runs(swept):
    storage = Store.open(swept.options.storage)
    return [storage / name for name in storage.list() if name.startswith("smoke-seed-0-")]


def test_a_dry_run_tells_what_is_finished(swept, capsys):
    assert decoder_gan.main(replace(swept.options, dry_run=True)) == 0
    assert "1 parent (smoke-seed-0), 2 fine-tunings: control; GE, trained; each" in (
        told := capsys.readouterr().out
    )
    assert "3 of 3 are finished" in told
    assert decoder_gan.main(replace(swept.options, dry_run=True, seeds=2)) == 0
    assert "3 of 5 are finished" in capsys.readouterr().out


def test_results_move_with_their_storage_and_end_when_the_parent_trains_on(swept, tmp_path):
    storage = Store.open(shutil.copytree(swept.options.storage, tmp_path / "moved"))
    parent = storage / "smoke-seed-0"
    pieces = pieces_of(replace(swept.options, storage=storage.uri), [parent.uri])
    assert all(read_measured(piece).run.startswith(storage.uri) for piece in pieces)
    newest = latest(parent)
    further = parent / f"checkpoints/{int(newest.name) + 1:012d}"
    shutil.copytree(newest.uri, further.uri)
    marker = further.read_json(MARKER)
    further.write_json(MARKER, {"sha256": {**marker["sha256"], "more": "0"}})
    assert [read_measured(piece) for piece in pieces] == [None] * 3


def test_results_of_other_versions_are_measured_again(swept, monkeypatch):
    """A control of before an update stood beside an arm of after it."""
    (parent,) = (run.folder for run in decoder_gan._own_parents(swept.options))
    pieces = pieces_of(swept.options, [parent.uri])
    assert all(read_measured(piece) for piece in pieces)
    monkeypatch.setattr(decoder_gan_piece, "library_versions", lambda: {"torch": "99"})
    assert [read_measured(piece) for piece in pieces] == [None] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smoke-seed-0/checkpoints/{newest}", "is no folder of a run"),
        ("{tuned}", "is itself fine-tuned, from smoke-seed-0"),
        ("nothing", "there is no run 'nothing'"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_no_sweep_can_begin_with_is_refused_before_anything(swept, name, message, dry_run):
    storage = Store.open(swept.options.storage)
    newest = latest(storage / "smoke-seed-0").name
    name = name.format(newest=newest, tuned=tuned_runs(swept)[0].name)
    run = f"{storage}/{name}" if "/" in name else name
    options = replace(swept.options, run=(run,), dry_run=dry_run)
    with pytest.raises((ValueError, CheckpointError), match=message):
        decoder_gan.main(options)


def test_two_parents_of_one_name_are_refused(swept, tmp_path):
    shutil.copytree(f"{swept.options.storage}/smoke-seed-0", tmp_path / "smoke-seed-0")
    options = replace(swept.options, run=("smoke-seed-0", str(tmp_path / "smoke-seed-0")))
    with pytest.raises(ValueError, match="two parents smoke-seed-0, and results are kept by that"):
        decoder_gan.main(options)


def test_parents_of_other_data_ask_for_another_storage(swept, tmp_path):
    options = replace(swept.options, data=str(tmp_path))
    with pytest.raises(ValueError, match="A sweep has neither flag: name another --storage"):
        decoder_gan.main(options)


def test_the_scale_of_gpus_reserves_them(tmp_path):
    options = settle(GanSweepOptions(scale="gpu", data=str(tmp_path), storage=str(tmp_path)))
    (first, _) = decoder_gan._own_parents(options)
    assert first.config.cluster.use_gpu
    piece = pieces_of(options, [first.folder.uri])[1]
    assert piece.use_gpu
    config = piece_config(piece, first.config, ParentConfig(run="a", digest="0" * 16))
    assert config.cluster.use_gpu


def test_the_line_tells_runs_at_work_and_none_of_an_earlier_start():
    states = {
        "old": {"state": "done", "time": 9.0, "images": 100, "total_images": 100},
        "a": {"state": "training", "time": 11.0, "images": 25, "total_images": 100},
        "b": {"state": "done", "time": 11.0, "images": 100, "total_images": 100},
    }
    text, part = describe_runs(states, since=10.0)
    assert text == " | a: training: 25/100 images | b: measuring" and part == 1.25
    assert describe_runs({}, since=10.0) == ("", 0.0)


def test_a_dry_run_starts_nothing(tmp_path, capsys):
    options = settle(GanSweepOptions(dry_run=True, storage=str(tmp_path)))
    assert decoder_gan.main(options) == 0
    told = capsys.readouterr().out
    assert "2 parents (digits-blurred-seed-0, digits-blurred-seed-1), 36 fine-tunings" in told
    assert "0 of 38 are finished" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", GAN_SCALES)
def test_every_scale_makes_parents_and_fine_tunings_that_can_run(scale, tmp_path):
    options = settle(GanSweepOptions(scale=scale, data=str(tmp_path), storage=str(tmp_path)))
    fields = {"storage": options.storage, "data.train": options.data}
    chosen = GAN_SCALES[scale]
    parent = parent_config(chosen.parent, 1, {**fields, **chosen.parent_fields})
    assert validate(parent).training.seed == 1 and parent.data.train == str(tmp_path)
    for piece in pieces_of(options, [str(tmp_path / parent.name)]):
        if piece.arm != PARENT:
            config = piece_config(piece, parent, ParentConfig(run=parent.name, digest="0" * 16))
            assert config.finetune.epochs > config.adversarial.adversarial_start
