"""Adversarial fine-tuning of the decoder in one process: who is trained, by what, and resume."""

from __future__ import annotations

import math
from dataclasses import replace as replace_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch._functorch.config as settings_of_autograd

from unite.checkpoints.export import write_export
from unite.checkpoints.load import load
from unite.checkpoints.store import committed, folder_of, latest, read_checkpoint
from unite.config.finetune import FinetuneRunConfig, as_trained, finetune_recipe
from unite.config.schema import ImagesConfig
from unite.config.serialise import replace, to_dict
from unite.data.loader import local_reader
from unite.domains import build_domain
from unite.flow.random import Purpose
from unite.models.unite import UNITE
from unite.runs import read_run_config
from unite.sampling.generator import sample
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.adversarial import AdversarialObjective, require_adversarial
from unite.training.augment import augment
from unite.training.finetune import find_parent, named
from unite.training.objective import MicroBatch
from unite.training.parallelize import World
from unite.training.readout import NonFiniteError
from unite.training.runs import begin, open_run
from unite.training.schedule import Plan
from unite.training.setup import Job, build_objective, build_trainer
from unite.training.step import Address

BATCH = 48  # another one than the parent's
STEPS = 6


@pytest.fixture
def parent(smoke, make_trainer):
    """A trained run whose modulation layers are moved, as those of a longer run are."""
    trainer = make_trainer(replace(smoke, {"name": "parent", "training.epochs": 2 * BATCH / 1500}))
    for part in (trainer.model, trainer.ema.module()):
        draws = torch.Generator().manual_seed(0)
        for block in part.tokenizer.blocks:
            block.modulation.weight.data += 0.1 * torch.randn(
                block.modulation.weight.shape, generator=draws
            )
    trainer.run()
    return find_parent(trainer.writer.run.uri, storage="")


def settings(parent, changes=None) -> FinetuneRunConfig:
    config = finetune_recipe("small", replace_dataclass(parent.config, name=""))
    fields = {
        "parent": parent.identity,
        "finetune.epochs": STEPS * BATCH / 1500,
        "finetune.batch_size": BATCH,
        "finetune.log_every_steps": 1,
        "adversarial.adversarial_start": 0.0,
        "checkpoint.every_images": 2 * BATCH,
        **(changes or {}),
    }
    return named(replace(config, fields))


def tune(parent, config, world=None):
    run = open_run(config)
    begin(run)
    job = Job(
        config=run.config,
        folder=run.folder,
        resume_from=run.resume_from,
        start_from=parent.place,
    )
    return build_trainer(job, world or World(), Tracker(), local_reader)


def finished(parent, changes=None):
    trainer = tune(parent, settings(parent, changes))
    trainer.run()
    trainer.stream.close()
    return trainer


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def encoder_of(state):
    return {name: value for name, value in state.items() if not name.startswith("decoder.")}


def test_the_encoder_is_untouched_to_the_bit_and_the_decoder_is_trained(parent):
    trainer = finished(parent)
    before = load(parent.place.uri).state_dict()
    saved = read_checkpoint(latest(trainer.writer.run)).parts
    for part in ("model", "ema"):
        assert same(encoder_of(saved[part]), encoder_of(before))
        assert not torch.equal(saved[part]["decoder.stem.weight"], before["decoder.stem.weight"])
    names = {name for row in trainer.history for name in row}
    assert names >= {
        *("loss/l1", "loss/adversarial", "loss/discriminator", "grad/disc_norm", "grad/skipped"),
        *("disc/real", "disc/fake", "disc/accuracy", "disc/weight", "eval/psnr"),
    }


def test_raw_weights_of_the_parent_are_taken_when_asked_for(parent):
    trainer = tune(parent, settings(parent, {"finetune.start_from": "raw"}))
    assert same(trainer.model.state_dict(), load(parent.place.uri, ema=False).state_dict())
    trainer.stream.close()


def test_the_control_is_the_same_steps_without_an_adversary(parent):
    trainer = finished(parent, {"adversarial.weight": 0.0})
    assert trainer.objective.adversary is None and "-control-" in trainer.writer.run.name
    assert set(read_checkpoint(latest(trainer.writer.run)).parts) == {"model", "ema", "optimizer"}
    assert not any(name.startswith("disc/") for row in trainer.history for name in row)


def test_players_begin_at_their_epochs(parent):
    epoch = BATCH / 1500
    changes = {
        "adversarial.discriminator_start": 1.5 * epoch,
        "adversarial.adversarial_start": 3.5 * epoch,
    }
    rows = [row for row in finished(parent, changes).history if "loss/l1" in row]
    assert ["loss/discriminator" in row for row in rows] == [False] * 2 + [True] * 4
    assert ["loss/adversarial" in row for row in rows] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("stop_after", [1, 3])
def test_stopped_anywhere_and_resumed_equals_a_straight_run(parent, stop_after):
    changes = {"adversarial.lecam": 0.1}
    straight = finished(parent, {**changes, "name": "straight"})
    broken = settings(parent, {**changes, "name": "broken"})
    first = tune(parent, broken)
    calls = iter(range(1000))
    first.requests = lambda: next(calls) >= stop_after - 1
    assert first.run()["stopped"] and first.images == stop_after * BATCH
    first.stream.close()
    second = tune(replace_dataclass(parent, place=Store("/nowhere")), broken)
    assert second.images == stop_after * BATCH
    second.run()
    second.stream.close()
    saved = [read_checkpoint(latest(t.writer.run)).parts for t in (straight, second)]
    assert saved[0].keys() == saved[1].keys() >= {"discriminator", "discriminator_optimizer"}
    assert all(same(saved[0][part], saved[1][part]) for part in saved[0])
    assert second.history == straight.history


def test_a_frozen_trunk_is_not_stored_twice(parent):
    trainer = finished(parent, {"discriminator.trunk": "frozen"})
    saved = read_checkpoint(latest(trainer.writer.run)).parts["discriminator"]
    assert all(name.startswith("heads.") or name == "lecam_anchors" for name in saved)
    assert same(
        encoder_of(trainer.model.state_dict()), encoder_of(load(parent.place.uri).state_dict())
    )


def test_the_result_is_a_whole_model_that_generates_and_exports(parent, tmp_path):
    run = finished(parent).writer.run
    model, exported = load(run.uri), tmp_path / "exported"
    _, images = sample(model, [1, 2], seeds_B=[0, 1], solver="euler", num_steps=2)
    assert images.shape == (2, 1, 8, 8) and bool(images.isfinite().all())
    write_export(model, to_dict(read_run_config(run.uri)), Store.open(exported))
    assert same(load(exported).state_dict(), model.state_dict())
    for place in (run.uri, str(exported)):
        with pytest.raises(ValueError, match=f"itself fine-tuned, from {parent.identity.run}"):
            find_parent(place, storage="", data=parent.config.data.train)


# The step itself ---------------------------------------------------------------------------------


def stage(changes=None, seed=0) -> AdversarialObjective:
    """Both players on a fresh model of 8 x 8 images, without a run."""
    from unite.config.recipes import recipe

    fields = {
        "adversarial.adversarial_start": 0.0,
        "finetune.batch_size": 8,
        "discriminator.features": "tokens",
        **(changes or {}),
    }
    config = as_trained(replace(finetune_recipe("small", recipe("smoke")), fields))
    torch.manual_seed(seed)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    for block in model.tokenizer.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
    torch.nn.init.normal_(model.tokenizer.final.out.weight, std=0.1)
    return build_objective(model, config, None, Plan.of(config, 1500))


def part(rows: slice) -> MicroBatch:
    sample = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    sample = (sample * 255).round() / 255
    index = torch.arange(8)
    address = Address(seed=0, epochs_B=torch.zeros_like(index)[rows], rows_B=index[rows])
    return MicroBatch(sample[rows], torch.zeros(8, dtype=torch.int64)[rows], address)


def turn(player, cuts, ranks=1):
    """A player's gradients and values from one batch in `cuts` micro-batches on each of `ranks`."""
    size = 8 // (cuts * ranks)
    parts = [part(slice(start, start + size)) for start in range(0, 8, size)]
    sums = None
    for rank in range(ranks):
        player.zero_grad()
        for each in parts[rank * cuts : (rank + 1) * cuts]:
            player.backward(each, 0, 1 / cuts)
        mine = [tensor.clone() for tensor in player.averaged()]
        sums = mine if sums is None else [a + b for a, b in zip(sums, mine, strict=True)]
    for tensor, total in zip(player.averaged(), sums, strict=True):
        tensor.copy_(total / ranks)
    gradients, values = player.combine()
    return [g.clone() for g in gradients], values


@pytest.mark.parametrize(("cuts", "ranks"), [(2, 1), (4, 1), (1, 2), (1, 4), (2, 2)])
def test_neither_ranks_nor_accumulation_change_weight_and_gradients(cuts, ranks):
    whole, values = turn(stage().decoder, 1)
    cut, other = turn(stage().decoder, cuts, ranks)
    assert 0 < float(values["disc/weight"]) < 0.75 * 1e3
    assert float(other["disc/weight"]) == pytest.approx(float(values["disc/weight"]), rel=1e-5)
    scale = max(float(g.abs().max()) for g in whole)
    for left, right in zip(whole, cut, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("cuts", "ranks"), [(4, 1), (1, 4)])
def test_neither_changes_the_discriminators_gradients(cuts, ranks):
    gradients = []
    for c, r in ((1, 1), (cuts, ranks)):
        made = stage()
        size = 8 // (c * r)
        latents = [
            made.noised_latent(part(slice(s, s + size)).sample, part(slice(s, s + size)).address)
            for s in range(0, 8, size)
        ]
        player = made.adversary
        zero = player.zero_grad

        def zero_and_fill(made=made, latents=latents, c=c, zero=zero):
            zero()
            made.decoder.latents, latents[:] = latents[:c], latents[c:]

        player.zero_grad = zero_and_fill
        gradients.append(turn(player, c, r)[0])
    scale = max(float(g.abs().max()) for g in gradients[0])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5 * scale)


def test_the_combined_gradient_is_that_of_one_weighted_loss():
    """Against one graph: reconstruction + weight x adversarial, with VQGAN's ratio."""
    made = stage()
    gradients, values = turn(made.decoder, 1)
    batch = part(slice(0, 8))
    latent = made.noised_latent(batch.sample, batch.address)
    x_hat = made.model.decode(latent)
    loss = made.config.loss.reconstruction_weight * (x_hat - batch.sample).abs().mean()
    keys = batch.address.keys(Purpose.AUGMENT)
    fooled = -made.decoder.judge(augment(x_hat, keys, made.config.discriminator)).mean()
    last = made.model.decoder.head.out.weight
    norms = [
        torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (loss, fooled)
    ]
    weight = 0.75 * norms[0] / (norms[1] + 1e-6)
    assert float(values["disc/weight"]) == pytest.approx(float(weight), rel=1e-5)
    expected = torch.autograd.grad(loss + weight.detach() * fooled, made.decoder.parameters)
    scale = max(float(g.abs().max()) for g in expected)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


def test_compiled_blocks_give_both_terms_gradients():
    """Code that was compiled for steps without an adversary serves those with one, too."""
    start = {"adversarial.adversarial_start": 1.0, "discriminator.trunk": "frozen"}
    found = []
    with settings_of_autograd.patch(donated_buffer=True):
        for compiled in (False, True):
            made = stage({**start, "training.compile": compiled})
            for block in made.model.decoder.blocks if compiled else ():
                block.compile(fullgraph=True, backend="aot_eager_decomp_partition")
            for images in (0, 1500):
                made.decoder.zero_grad()
                terms = made.decoder.backward(part(slice(0, 8)), images, 1.0)
                assert ("loss/adversarial" in terms) is (images > 0)
                found.append([g.clone() for g in made.decoder.combine()[0]])
    for plain, compiled in zip(found[:2], found[2:], strict=True):
        scale = max(float(g.abs().max()) for g in plain)
        for one, other in zip(plain, compiled, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * scale)


def test_the_discriminator_sees_reconstructions_in_8_bits(monkeypatch):
    made = stage()
    seen = []
    judge = made.adversary.judge
    verdicts = made.verdicts
    made.verdicts = lambda j, address, *images: seen.extend(images) or verdicts(j, address, *images)
    made.decoder.backward(part(slice(0, 8)), 0, 1.0)
    made.adversary.backward(part(slice(0, 8)), 0, 1.0)
    assert judge is made.decoder.judge and len(seen) == 3
    for images in seen[1:]:
        assert torch.equal((images * 255).round() / 255, images)
        assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert not torch.equal((seen[0] * 255).round() / 255, seen[0])


def test_a_decoders_turn_gives_the_discriminator_no_gradient_and_the_reverse():
    made = stage()
    made.decoder.zero_grad(), made.adversary.zero_grad()
    made.decoder.backward(part(slice(0, 8)), 0, 1.0)
    assert all(p.grad is None for p in made.adversary.parameters)
    before = [g.clone() for g in made.decoder.averaged()]
    made.adversary.backward(part(slice(0, 8)), 0, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, made.decoder.averaged(), strict=True))
    assert all(p.grad is not None for p in made.adversary.parameters)


def test_trunk_and_heads_have_their_own_learning_rates():
    adversary = stage({"discriminator.trunk_lr_scale": 0.25}).adversary
    factors = {name: factor for name, (_, factor) in adversary.members.items()}
    assert factors == {"heads": 1.0, "trunk": 0.25}, "by the names that checkpoints keep"
    assert sorted(factor for _, factor in adversary.optimizers) == [0.25, 1.0]
    frozen = stage({"discriminator.trunk": "frozen"}).adversary
    assert len(frozen.optimizers) == 1


# Numbers that are not finite ----------------------------------------------------------------------


@pytest.mark.parametrize("player", ["decoder", "adversary"])
def test_a_non_finite_number_of_either_player_changes_nothing_of_both(parent, player):
    trainer = tune(parent, settings(parent))
    trainer.train_step(next(trainer.stream))
    trainer.images += BATCH

    def everything():
        parts = {"model": trainer.model.state_dict(), "ema": trainer.ema.state_tensors()}
        parts |= trainer.objective.state()
        return {f"{p}/{n}": t.clone() for p, named in parts.items() for n, t in named.items()}

    before = everything()
    spoilt = getattr(trainer.objective, player)
    good = spoilt.backward
    spoilt.backward = lambda *given, last: {k: v * math.nan for k, v in good(*given).items()}
    values, _ = trainer.train_step(next(trainer.stream))
    assert all(math.isfinite(value) for value in values.values())
    assert same(everything(), before) and trainer.readout.skipped == 1
    trainer.stream.close()


def test_ten_steps_in_a_row_end_the_run_and_name_the_last_good_checkpoint(parent):
    changes = {"finetune.epochs": 30 * BATCH / 1500, "checkpoint.every_images": BATCH}
    trainer = tune(parent, settings(parent, changes))
    good = trainer.objective.adversary.backward
    steps = iter(range(1000))

    def backward(*given, last):
        scale = math.nan if next(steps) >= 3 else 1.0
        return {name: value * scale for name, value in good(*given).items()}

    trainer.objective.adversary.backward = backward
    with pytest.raises(NonFiniteError, match=r"step 12 .*as 9 before it.*000576\. Fine-tune anew"):
        trainer.run()
    assert trainer.readout.skipped == 10
    assert committed(trainer.writer.run)[-1] == 12 * BATCH
    state = read_checkpoint(folder_of(trainer.writer.run, 12 * BATCH)).state
    assert state["skipped_steps"] == 9
    trainer.stream.close()


# A toy ------------------------------------------------------------------------------------------


def test_an_adversary_pulls_a_decoder_back_that_is_one_scale_off():
    """Images are one grey each; the decoder draws them at half their contrast, and L1 is off."""
    changes = {
        "domain": ImagesConfig(size=2, patch=1, channels=1, num_classes=1, flip=False),
        "model.num_registers": 4,
        "model.encoder.width": 32,
        "reconstruction_noise.probability": 0.0,
        "adversarial.mode": "fixed",
        "adversarial.weight": 1.0,
        "discriminator.augment_probability": 0.0,
    }
    made = stage(changes)
    draws = torch.Generator().manual_seed(0)
    grey = torch.where(torch.rand(256, 1, 1, 1, generator=draws) < 0.5, 0.1, 0.9)
    sample = (grey.expand(-1, 1, 2, 2) * 255).round() / 255
    scale = torch.nn.Parameter(torch.tensor(0.5))
    judge = made.adversary.judge
    heads = torch.optim.Adam([p for p in judge.parameters() if p.requires_grad], lr=2e-3)
    ours = torch.optim.Adam([scale], lr=2e-2)
    from unite.training.adversarial_loss import discriminator_loss, generator_loss

    for step in range(120):
        batch = sample[(step * 32) % 256 :][:32]
        ours.zero_grad()
        generator_loss(judge(0.5 + scale * (batch - 0.5)), "hinge").backward()
        ours.step()
        heads.zero_grad()
        made_up = (0.5 + scale.detach() * (batch - 0.5)).clamp(0, 1)
        discriminator_loss(judge(batch), judge(made_up), "hinge").backward()
        heads.step()
        judge.normalise()
    assert abs(float(scale.detach()) - 1.0) < 0.25


# What is refused ---------------------------------------------------------------------------------


def test_a_domain_without_differentiable_samples_is_refused():
    with pytest.raises(ValueError, match="molecules have element types"):
        require_adversarial(SimpleNamespace(name="molecules", adversarial=False))
    require_adversarial(build_domain(ImagesConfig()))


def test_a_run_without_a_checkpoint_is_refused(smoke):
    run = open_run(replace(smoke, {"name": "empty"}))
    begin(run)
    (run.folder / "checkpoints").write("note", b"")
    with pytest.raises(Exception, match="no committed checkpoint yet: there is no decoder"):
        find_parent(run.folder.uri, storage="")


def test_a_folder_without_a_model_holds_no_bare_weights(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(Exception, match=r"holds no model: expected a run.*notes\.txt"):
        find_parent(str(tmp_path), storage="")


def test_an_export_needs_data_and_bare_weights_are_refused(parent, tmp_path):
    place = tmp_path / "exported"
    write_export(load(parent.place.uri), to_dict(parent.config), Store.open(place))
    with pytest.raises(ValueError, match="is an export, which does not say where its data is"):
        find_parent(place.as_posix(), storage=str(tmp_path))
    found = find_parent(place.as_posix(), storage=str(tmp_path), data=parent.config.data.train)
    assert found.identity.run == "exported" and len(found.identity.digest) == 16
    changes = {"storage": str(tmp_path), "name": found.config.name}
    assert found.config == replace(parent.config, changes)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="holds bare weights, which do not say how"):
        find_parent(bare.as_posix(), storage=str(tmp_path))


def test_a_parent_that_trained_on_meanwhile_is_refused(parent):
    config = settings(parent)
    other = replace(config, {"parent.digest": "0" * 16})
    with pytest.raises(Exception, match="is no longer the checkpoint 0000"):
        tune(parent, other)
    first = tune(parent, replace(config, {"name": "held"}))
    first.stream.close()
    with pytest.raises(ValueError, match=r"parent.digest: .* -> '0000"):
        open_run(replace(other, {"name": "held"}))


def test_seeds_draw_other_heads_and_equal_seeds_equal_ones():
    weights = [
        stage({"finetune.seed": seed}).adversary.judge.heads[0][1].weight for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert np.isfinite(weights[2].detach().numpy()).all()
