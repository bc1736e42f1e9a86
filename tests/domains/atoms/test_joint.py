"""Molecules and crystals in one model: losses of each kind, sizes, a run from data to files."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from trainers import straight_and_continued, trainer_of
from unite.checkpoints.load import load
from unite.config.domains import CrystalsConfig, JointConfig
from unite.config.recipes import recipe
from unite.config.schema import LossConfig
from unite.config.serialise import replace as change
from unite.data.loader import sequential_batches
from unite.data.manifest import ShardError
from unite.domains import build_domain
from unite.drivers.evaluate import evaluate, open_evaluation
from unite.evaluation.arguments import EvaluateArguments
from unite.flow.random import stream_keys
from unite.models import UNITE
from unite.sampling.arguments import GenerateArguments
from unite.sampling.generate_job import generate, unseen_sizes
from unite.sampling.seeds import conditions
from unite.training.setup import open_split

CONFIG = JointConfig(crystals=CrystalsConfig(frac_code="circle"))
LOSS = LossConfig()


def samples(rows, kinds=("molecules", "crystals"), domain=None):
    """Rows of some kinds as a batch of the joint domain."""
    domain = domain or build_domain(CONFIG)
    names = ("numbers", "positions", "frac", "lengths", "angles")
    chosen = [row for kind in kinds for row in rows[kind]]
    fields, bad = domain.decode_rows({name: [row.get(name) for row in chosen] for name in names})
    assert not bad
    return domain.to_sample({k: torch.from_numpy(v) for k, v in fields.items()})


def model_of(config=CONFIG) -> UNITE:
    torch.manual_seed(0)
    settings = recipe("qm9-mp20-tiny")
    model = UNITE(settings.model, build_domain(config), settings.flow).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def reconstructed(model, sample):
    noise = torch.zeros(len(sample["mask"]), *model.noise_shape)
    z = model.tokenize(sample, noise, torch.zeros(len(noise)))
    return model.decode(z, sample["mask"])


def test_the_kind_is_the_label(joint_rows):
    _, labels = samples(joint_rows)
    expected = [0] * len(joint_rows["molecules"]) + [1] * len(joint_rows["crystals"])
    assert labels.tolist() == expected


@torch.no_grad()
def test_a_batch_of_one_kind_has_the_loss_and_metrics_of_that_kind(joint_rows):
    """The same reconstruction, judged by the kind's own domain."""
    model = model_of()
    for kind, part in zip(("molecules", "crystals"), model.domain.parts, strict=True):
        sample, _ = samples(joint_rows, [kind])
        atoms = model.domain._as_molecules(reconstructed(model, sample))
        if kind == "crystals":
            atoms = reconstructed(model, sample)
        found = model.domain.reconstruction_terms(atoms, sample, LOSS, None)
        expected = part.reconstruction_terms(atoms, sample, LOSS, None)
        place = "positions" if kind == "molecules" else "frac"
        assert torch.equal(found["types"], expected["types"])
        torch.testing.assert_close(found[place], expected["positions"])
        torch.testing.assert_close(found["lattice"], expected.get("lattice", torch.tensor(0.0)))
        assert not found["frac" if kind == "molecules" else "positions"]
        rest = model.domain.reconstruction_loss({**found, "part": 0.0}, LOSS)
        torch.testing.assert_close(rest, part.reconstruction_loss(expected, LOSS))
        metrics = model.domain.reconstruction_metrics(atoms, sample)
        for name, values in part.reconstruction_metrics(atoms, sample).items():
            assert name == "match_pct" or torch.equal(metrics[name], values), name


@torch.no_grad()
def test_tokens_of_a_molecule_are_those_of_the_molecules_own_embedder(joint_rows):
    domain, encoder = build_domain(CONFIG), recipe("qm9-mp20-tiny").model.encoder
    sample, _ = samples(joint_rows, ["molecules"])
    joint = domain.build_embedder(32, encoder)
    alone = domain.molecules.build_embedder(32, encoder)
    alone.load_state_dict(joint.state_dict(), strict=False)
    torch.testing.assert_close(joint(sample), alone(sample))


def test_the_terms_of_a_mixture_are_the_means_of_its_kinds(joint_rows):
    model = model_of()
    with torch.no_grad():
        found = {}
        for kinds in (("molecules",), ("crystals",), ("molecules", "crystals")):
            sample, labels = samples(joint_rows, kinds)
            terms = model.domain.reconstruction_terms(
                reconstructed(model, sample), sample, LOSS, None
            )
            found[kinds] = {name: len(labels) * value for name, value in terms.items()}
    (molecules, crystals, both) = found.values()
    for name, value in both.items():
        torch.testing.assert_close(value, molecules[name] + crystals[name], rtol=1e-4, atol=1e-4)


def test_no_molecule_is_translated_and_each_kind_turns_by_its_own_switch(joint_rows):
    unturned = replace(CONFIG, crystals=replace(CONFIG.crystals, rotate=False))
    domain = build_domain(unturned)
    sample, labels = samples(joint_rows)
    new = domain.augment(sample, stream_keys(0, torch.arange(len(labels))))
    molecules, crystals = labels == 0, labels == 1
    assert torch.equal(new["frac"][molecules], sample["frac"][molecules])
    assert not torch.equal(new["frac"][crystals], sample["frac"][crystals])
    centre = (new["pos"] * sample["mask"][..., None]).sum(1)[molecules]
    torch.testing.assert_close(centre, torch.zeros_like(centre), atol=1e-5, rtol=0)
    assert not torch.equal(new["pos"][molecules], sample["pos"][molecules])


@torch.no_grad()
def test_padding_changes_nothing(joint_rows):
    model = model_of()
    sample, _ = samples(joint_rows)
    found = []
    for length in (12, 29):
        per_atom = ("types", "pos", "frac", "mask")
        cut = {k: v[:, :length] if k in per_atom else v for k, v in sample.items()}
        noise = torch.zeros(len(cut["mask"]), length, model.noise_shape[1])
        z = model.tokenize(cut, noise, torch.zeros(len(noise)))
        atoms = model.decode(z, cut["mask"])
        terms = model.domain.reconstruction_terms(atoms, cut, LOSS, None)
        found.append([z[:, :12], atoms["part"], *terms.values()])
    for short, padded in zip(*found, strict=True):
        torch.testing.assert_close(short, padded, rtol=1e-5, atol=1e-5)


def test_structures_come_back_as_their_kind(joint_rows):
    domain = build_domain(CONFIG)
    sample, labels = samples(joint_rows)
    found = domain.structures(domain.as_reconstruction(sample))
    assert [each.frac is not None for each in found] == labels.bool().tolist()
    numbers = [row["numbers"] for row in (*joint_rows["molecules"], *joint_rows["crystals"])]
    assert [bytes(each.numbers.tolist()) for each in found] == numbers


@torch.no_grad()
def test_a_kind_is_taken_out_and_put_back(joint_rows):
    """A sample of one kind's domain is that of the joint one, and its structures are the same."""
    domain = build_domain(CONFIG)
    for part in domain.parts:
        own = joint_rows[part.name]
        fields, _ = part.decode_rows({name: [row[name] for row in own] for name in own[0]})
        alone, _ = part.to_sample({k: torch.from_numpy(v) for k, v in fields.items()})
        whole = domain.sample_of(part.name, alone)
        together, _ = samples(joint_rows, [part.name])
        assert whole.keys() == together.keys()
        for name, values in whole.items():
            length = values.shape[1] if values.dim() > 1 else None
            expected = together[name] if length is None else together[name][:, :length]
            torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)
        atoms = domain.as_reconstruction(together)
        assert domain.is_of(part.name, atoms).all()
        assert not any(domain.is_of(p.name, atoms).any() for p in domain.parts if p is not part)
        found = part.structures(domain.reconstruction_of(part.name, atoms))
        assert [bytes(each.numbers.tolist()) for each in found] == [row["numbers"] for row in own]
        assert all((each.frac is not None) == part.config.periodic for each in found)


def test_sizes_that_the_kind_never_had_are_told():
    model = SimpleNamespace(statistics=SimpleNamespace(tensors={"sizes": torch.eye(2, 30).long()}))
    assert unseen_sizes(model, [0, 0, 1, 5], torch.tensor([0, 1, 1, 0])) == [0, 5]
    assert unseen_sizes(model, [0, 1], torch.tensor([0, 1])) == []


def test_sizes_are_those_of_the_kind():
    domain = build_domain(CONFIG)
    sizes = torch.zeros(2, 30, dtype=torch.int64)
    sizes[0, 5], sizes[1, 8] = 3, 1
    keys = stream_keys(0, torch.arange(4000))
    for label, expected in ((0, {5}), (1, {8}), (2, {5, 8})):
        labels = torch.full((4000,), label)
        drawn = domain.draw_mask(keys, {"sizes": sizes}, labels).sum(1)
        assert set(drawn.tolist()) == expected
    share = (drawn == 5).double().mean().item()
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5


def test_every_row_of_both_folders_is_read_once_an_epoch(joint_config, joint_rows):
    trainer = trainer_of(joint_config)
    shards = open_split(trainer.config, "train")
    total = 4 * (len(joint_rows["molecules"]) + len(joint_rows["crystals"]))
    assert shards.num_rows == total
    seen = [next(trainer.stream) for _ in range(-(-total // 8))]
    trainer.stream.close()
    first = np.concatenate([batch.rows_B[batch.epochs_B == 0] for batch in seen])
    assert sorted(first.tolist()) == list(range(total))
    (whole,) = sequential_batches(shards, build_domain(joint_config.domain), batch_size=total)
    assert whole.fields["crystal"].sum() == 4 * len(joint_rows["crystals"])
    sizes = trainer.model.statistics.tensors["sizes"]
    assert sizes.sum(1).tolist() == [
        4 * len(joint_rows[kind]) for kind in ("molecules", "crystals")
    ]


def test_neither_groups_nor_ranks_change_a_loss(joint_config):
    trainer = trainer_of(change(joint_config, {"flow.warmup_fraction": 0.0}))
    batch = next(trainer.stream)
    trainer.stream.close()
    whole = terms_of(trainer, batch, 1)
    for count in (2, 4):
        shares = []
        for rank in range(count):
            fields = {name: value[rank::count] for name, value in batch.fields.items()}
            kept = {"rows_B": batch.rows_B[rank::count], "epochs_B": batch.epochs_B[rank::count]}
            shares.append(terms_of(trainer, SimpleNamespace(fields=fields, **kept), 2))
        for found in (terms_of(trainer, batch, count), torch.stack(shares).mean(0)):
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def terms_of(trainer, batch, count):
    trainer.config = change(trainer.config, {"training.accumulation": count})
    trainer.batch = batch
    (player,) = trainer.objective.turns(0)
    return torch.stack(list(trainer._accumulate(player)[1])).detach().clone()


def test_it_trains_continues_to_the_bit_draws_both_kinds_and_is_evaluated(joint_config, tmp_path):
    straight, continued = straight_and_continued(joint_config, stop=24)
    assert {"loss/part", "loss/frac", "loss/positions"} <= straight.metrics.keys()
    run = continued.writer.run.uri
    model = load(run)
    drawn = conditions(model, torch.arange(40), labels_B=[0, 1] * 20).mask_BK.sum(1)
    sizes = model.statistics.tensors["sizes"]
    assert all(sizes[row % 2, size] for row, size in enumerate(drawn.tolist()))
    generate(GenerateArguments(run=run, num=4, out=str(tmp_path / "drawn")), str(tmp_path))
    table = pq.read_table(tmp_path / "drawn" / "samples.parquet").to_pylist()
    kinds = {"samples.cif": "frac", "samples.xyz": "positions"}
    for file, column in kinds.items():
        some = any(row.get(column) is not None for row in table)
        assert (tmp_path / "drawn" / file).exists() == some
    asked = EvaluateArguments(run=run, suite=("trajectory",), num_workers=0, track=False)
    (outcome,) = evaluate(open_evaluation(asked, str(tmp_path / "runs")))
    assert outcome.rows


def test_folders_of_other_kinds_are_refused_by_name(joint_config, joint_data):
    molecules, crystals = joint_data.split("::")
    for wrong, message in (
        (molecules, "reads molecules and crystals, a folder of each"),
        (f"{crystals}::{molecules}", r"crystals holds crystals; recipe qm9-mp20-tiny reads molec"),
    ):
        with pytest.raises(ShardError, match=message):
            open_split(change(joint_config, {"data.train": wrong}), "train")
