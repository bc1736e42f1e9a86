"""The ablation of the decoder's fine-tuning from end to end at a size that measures nothing."""

from __future__ import annotations

import pytest
import torch

from unite.ablation.decoder_gan import CONTROL, GE, PARENT, SETS
from unite.ablation.decoder_gan_options import GAN_SCALES, GanSweepOptions, settle
from unite.config.finetune import ParentConfig
from unite.config.validate import validate
from unite.drivers import decoder_gan, decoder_gan_piece
from unite.drivers.decoder_gan import describe_runs, pieces_of
from unite.drivers.decoder_gan_piece import parent_config, piece_config
from unite.storage import Store


def test_the_smoke_sweep_writes_its_files_and_repeats_nothing(tmp_path, capsys, monkeypatch):
    torch.set_num_threads(1)
    asked = GanSweepOptions(scale="smoke", arms=(GE,), num_workers=0, storage=str(tmp_path))
    options = settle(asked)
    tuned = []
    tune = decoder_gan_piece._tune
    monkeypatch.setattr(
        decoder_gan_piece, "_tune", lambda piece: tuned.append(piece.arm) or tune(piece)
    )
    assert decoder_gan.main(options) == 0
    told, progress = capsys.readouterr()
    assert "1 of 1 parent done: smoke-seed-0" in progress
    assert "2 of 2 fine-tunings done: smoke-seed-0-gan" in progress
    assert tuned == [CONTROL, GE]
    assert "| control |" in told and "UNDECIDED: GE, trained lowers rfd" in told
    out = Store.open(tmp_path) / "sweeps" / "decoder-gan-smoke"
    assert len((out / "latents").list()) == SETS  # of the parent, for all arms
    wanted = {"decoder_gan.md", "decoder_gan.png", "decoder_gan.svg", "decoder_gan_images.png"}
    assert wanted <= set(out.list())
    assert decoder_gan.main(options) == 0
    assert tuned == [CONTROL, GE] and capsys.readouterr().out == told


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
    assert "2 parents (seed 0, seed 1), 36 fine-tunings" in capsys.readouterr().out
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
