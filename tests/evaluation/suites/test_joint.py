"""Each part of a joint model, measured by the suites of its kind."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from trainers import trained
from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.drivers.evaluate import evaluate, open_evaluation
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.suite import read_chunks
from unite.sampling.passes import tokenize_rows
from unite.storage import Store

KINDS = ("molecules", "crystals")
COSTS = ("nfe", "passes", "images_per_s")


def asked_of(run, *suites, **changes) -> EvaluateArguments:
    return EvaluateArguments(run=run, suite=suites, num_workers=0, track=False, **changes)


def measured(run, tmp_path, *suites, **changes):
    evaluation = open_evaluation(asked_of(run, *suites, **changes), str(tmp_path / "runs"))
    outcomes = evaluate(evaluation)
    return evaluation.suites, [{row.card.metric: row for row in o.rows} for o in outcomes]


def test_a_parts_generation_is_what_a_model_of_its_kind_alone_gets_for_the_same_samples(
    joint_config, joint_data, tmp_path
):
    run = trained(joint_config).writer.run.uri
    suites, tables = measured(run, tmp_path, "generation", num_samples=40)
    assert [each.suite for each in suites] == [f"generation-{kind}" for kind in KINDS]
    folders = joint_data.split("::")
    for label, (kind, suite, rows) in enumerate(zip(KINDS, suites, tables, strict=True)):
        name = {"molecules": "qm9-tiny", "crystals": "mp20-tiny"}[kind]
        shared = ("storage", "data.train", "training.batch_size", "training.epochs")
        changes = {"name": kind, "model.encoder.depth": 1, "model.decoder.depth": 1}
        changes |= dict(zip(shared, (joint_config.storage, folders[label], 8, 1.0), strict=True))
        changes |= {"data.max_bad_fraction": 0.0, "sampling.num_steps": 2}
        changes |= {"evaluation.num_samples": 2, "evaluation.num_images": 4}
        alone = trained(change(recipe(name), changes)).writer.run.uri
        (own,) = open_evaluation(
            asked_of(alone, "generation", num_samples=40), str(tmp_path / "runs")
        ).suites
        assert own.truth.data == suite.truth.data and own.known == suite.known
        shutil.copytree(*(Store.open(each.samples.folder.uri).path("") for each in (suite, own)))
        _, (expected,) = measured(alone, tmp_path, "generation", num_samples=40)
        assert rows.keys() == expected.keys()  # kind_pct is kept with the samples
        for metric in expected.keys() - {*COSTS}:
            found, row = rows[metric].card, expected[metric].card
            assert found.value == row.value, metric
            assert found.details == row.details and rows[metric].paper == expected[metric].paper
        assert rows["kind_pct"].card.suite == f"generation-{kind}"
        assert rows["kind_pct"].card.label_sampling == str(label)


def test_a_parts_samples_have_its_class_and_its_sizes(joint_config, joint_rows, tmp_path):
    suites, tables = measured(
        trained(joint_config).writer.run.uri, tmp_path, "generation", num_samples=40
    )
    for kind, suite, rows in zip(KINDS, suites, tables, strict=True):
        chunks = suite.samples.chunks()
        structures = [each for chunk in chunks for each in suite.samples.read(chunk).values()]
        sizes = {len(row["numbers"]) for row in joint_rows[kind]}
        assert {len(each.numbers) for each in structures} <= sizes
        assert all((each.frac is not None) == (kind == "crystals") for each in structures)
        assert suite.truth.total == len(joint_rows[kind])
        totals = suite.samples.merged(read_chunks(suite.samples))
        right = totals["kind/"].result()["right"]
        card = rows["kind_pct"].card
        assert (card.value, card.num_samples) == (100 * right.mean(), len(right)) and len(
            right
        ) == 40


def test_a_parts_reconstruction_is_that_of_its_kinds_domain(joint_config, joint_rows, tmp_path):
    run = trained(joint_config).writer.run.uri
    suites, tables = measured(run, tmp_path, "reconstruction")
    assert [each.suite for each in suites] == [f"reconstruction-{kind}" for kind in KINDS]
    model = load(run, ema=True).eval()
    for part, rows in zip(model.domain.parts, tables, strict=True):
        own = joint_rows[part.name]
        names = ("numbers", "positions", "frac", "lengths", "angles")
        cells = {name: [row.get(name) for row in own] for name in names}
        fields, _ = model.domain.decode_rows(cells)
        sample, _ = model.domain.to_sample({k: torch.from_numpy(v) for k, v in fields.items()})
        with torch.inference_mode():
            z_BKD = tokenize_rows(model, sample, torch.arange(len(own)), seed=0)
            atoms = model.domain.reconstruction_of(part.name, model.decode(z_BKD, sample["mask"]))
        expected = part.reconstruction_metrics(atoms, sample)
        for metric in ("types_pct", "exact_pct", "rmsd_all"):
            value = expected[metric].double().mean().item()
            assert rows[metric].card.value == pytest.approx(value, rel=1e-5, abs=1e-6), metric
        assert rows["rmsd_all"].card.num_samples == len(own)
        assert 0 <= rows["kind_pct"].card.value <= 100


def test_one_part_can_be_asked_for_and_the_probe_is_none(joint_config, tmp_path):
    run = trained(joint_config).writer.run.uri
    opened = partial(open_evaluation, storage=str(tmp_path / "runs"))
    guided = asked_of(run, "generation-crystals", cfg_scale=2.0)
    (suite,) = opened(guided).suites
    assert (suite.samples.labels, suite.sampling.cfg_scale) == ("1", 2.0)
    assert len(opened(replace(guided, suite=(), cfg_scale=None)).suites) == 8
    with pytest.raises(ValueError, match=r"'probe' is unknown for structures.*generation-molec"):
        opened(replace(guided, suite=("probe",), cfg_scale=None))
    with pytest.raises(ValueError, match="--labels uniform has no effect on generation-crystals"):
        opened(replace(guided, labels="uniform"))
