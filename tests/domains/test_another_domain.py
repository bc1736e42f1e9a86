"""A domain that is no image goes through the real Trainer, checkpoints and sampler.

A sample is a set of up to K points in the plane: a varying number of registers and tokens, masks,
columns and metrics of its own. Whatever else of the platform knew about pixels would show here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unite
from trainers import straight_and_continued, trained, trainer_of
from unite import tracking
from unite.ablation.cost import measure_rate, sweep_lines
from unite.ablation.files import report_files
from unite.ablation.options import SweepOptions
from unite.ablation.results import Result, read_result, write_result
from unite.ablation.roles import LATENT_STD
from unite.ablation.trials import expand
from unite.ablation.verdict import Measured, verdict
from unite.checkpoints.export import write_export
from unite.checkpoints.store import CheckpointError, checkpoint_digest, latest
from unite.commands.export import export
from unite.commands.export_request import ExportArguments
from unite.config import schema
from unite.config.axes import NOISE
from unite.config.effects import override, require_effect
from unite.config.recipes import BASES, Base, recipe
from unite.config.scales import SCALES, Scale
from unite.config.schema import ImagesConfig, RunConfig
from unite.config.serialise import flatten, to_dict
from unite.config.serialise import replace as change
from unite.config.validate import validate
from unite.data.bad_rows import read_bad_rows
from unite.data.ingest.arguments import parse_arguments
from unite.data.ingest.kind import KINDS, Ingest
from unite.data.ingest.prepare import begin as begin_preparation
from unite.data.ingest.prepare import describe_plan, finish, plan, run_job
from unite.data.ingest.source import Record, Source
from unite.data.manifest import ShardError, content_digest
from unite.domains import Domain, build_domain
from unite.domains.sizes import draw_sizes, mask_of, size_histogram
from unite.drivers.evaluate import evaluate
from unite.drivers.sweep_runs import start_parent
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.card import MetricCard
from unite.evaluation.dataset import Dataset
from unite.evaluation.request import open_evaluation
from unite.evaluation.results import Outcome, Row, write_outcomes
from unite.evaluation.suite import Suite, common_fields
from unite.evaluation.suites import SHARED, Entry, suites_for
from unite.metrics.accumulator import Stack
from unite.metrics.specs import SPECS, Spec
from unite.models import UNITE
from unite.reporting.collect import collect
from unite.reporting.page import render
from unite.reporting.view import view
from unite.sampling import passes
from unite.sampling.generator import draw
from unite.sampling.seeds import conditions
from unite.sampling.served import Served
from unite.sampling.serving import _load_pyfunc, serving_for
from unite.storage import Store
from unite.training import evaluation
from unite.training.flops import training_flops
from unite.training.runs import open_run
from unite.training.step import Address, TrainingStep

MOST = 6
MEAN = 3.5
"""Points of an average set, so that the loss does not depend on how a batch is cut."""
BATCH = 8
CLOSENESS = Spec(
    family="reconstruction",
    key="closeness",
    meaning="minus the mean distance of points",
    better="higher",
    column="runs",
    judges=1,
    domains=("points",),
    logged=True,
)


@dataclass(frozen=True, kw_only=True)
class PointsConfig:
    """Sets of points with class labels."""

    kind: Literal["points"] = "points"
    num_classes: int = 2
    most: int = MOST


class PointEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2, width)

    def forward(self, sample):
        return self.projection(sample["points"])


class PointHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 2)

    def forward(self, x_BKH, mask_BK=None):
        points = self.out(x_BKH)
        return points if mask_BK is None else points * mask_BK[..., None]


class PointsDomain(Domain):
    name = "points"
    noun = "point set"
    best_metric = "closeness"
    columns = ("points", "label")

    def __init__(self, config: PointsConfig) -> None:
        self.config, self.num_classes = config, config.num_classes

    def validate(self, model):
        if model.num_registers != self.config.most:
            raise ValueError(f"model.num_registers = {model.num_registers}: use domain.most")

    def build_embedder(self, width, config):
        return PointEmbed(width)

    def build_head(self, width):
        return PointHead(width)

    def register_mask(self, sample):
        return sample["mask"]

    def token_mask(self, sample):
        return sample["mask"]

    def sizes(self, fields):
        return fields["mask"].sum(1)

    def trim(self, fields, length):
        return {k: v if k == "label" else v[:, :length] for k, v in fields.items()}

    def statistics(self, train):
        return {"sizes": size_histogram(map(self.sizes, train), self.config.most)}

    def draw_mask(self, keys_B, statistics, labels_B):
        return mask_of(draw_sizes(keys_B, statistics["sizes"]), self.config.most)

    def decode_rows(self, rows):
        count = len(rows["label"])
        points = np.zeros((count, self.config.most, 2), np.float32)
        mask = np.zeros((count, self.config.most), bool)
        bad = []
        for position, flat in enumerate(rows["points"]):
            number = len(flat) // 2
            if not 0 < number <= self.config.most:
                bad.append((position, f"a set must have 1..{self.config.most} points: {number}"))
                continue
            points[position, :number] = np.reshape(flat, (number, 2))
            mask[position, :number] = True
        labels = np.asarray(rows["label"], np.int64) * (self.num_classes > 0)
        return {"points": points, "mask": mask, "label": labels}, bad

    def to_sample(self, fields):
        return {"points": fields["points"], "mask": fields["mask"]}, fields["label"]

    def reconstruction_terms(self, reconstruction, sample, loss, perceptual):
        distance_BK = (reconstruction - sample["points"]).square().sum(-1) * sample["mask"]
        return {"positions": distance_BK.sum() / (len(distance_BK) * MEAN)}

    def reconstruction_loss(self, terms, loss):
        return loss.reconstruction_weight * terms["positions"]

    def reconstruction_metrics(self, reconstruction, sample):
        distance_BK = (reconstruction - sample["points"]).norm(dim=-1) * sample["mask"]
        return {"closeness": -distance_BK.sum(1) / sample["mask"].sum(1)}

    def example_fields(self, num, generator):
        points = generator.normal(size=(num, self.config.most, 2)).astype(np.float32)
        mask = np.ones((num, self.config.most), bool)
        return {"points": points, "mask": mask, "label": np.zeros(num, np.int64)}

    def as_reconstruction(self, sample):
        return sample["points"]

    def render(self, reconstruction, mask_BK=None):
        shades_BK = (reconstruction.norm(dim=-1).clamp(0, 1) * 255).to(torch.uint8)
        return shades_BK[:, None, :, None].expand(-1, 4, -1, 3)


@dataclass(frozen=True)
class PointsPart:
    rows: list

    @property
    def num_rows(self):
        return len(self.rows)

    def records(self):
        yield from self.rows


@dataclass(frozen=True, kw_only=True)
class PointsIngest(Ingest):
    """A folder of parquet files of points and labels."""

    most: int = MOST
    """Points of the largest set."""

    domain: ClassVar[str] = "points"
    noun: ClassVar[str] = "point set"
    schema: ClassVar[pa.Schema] = pa.schema(
        [("points", pa.list_(pa.float32())), ("label", pa.int64())]
    )
    parquet: ClassVar[Mapping[str, Any]] = {}

    def sources(self, out):
        found = {}
        for split, file in (("train", "train-0.parquet"), ("eval", "test-0.parquet")):
            rows = pq.read_table(f"{self.source}/{file}").to_pylist()
            records = [Record(cells=row, path=f"{file}#{i}") for i, row in enumerate(rows)]
            found[split] = Source(
                uri=self.source,
                num_rows=len(rows),
                parts=[PointsPart(records)],
                class_names=None,
                digest=content_digest(rows),
            )
        return found

    def encode(self, record):
        if len(record.cells["points"]) > 2 * self.most:
            raise ValueError(f"too many points: {len(record.cells['points']) // 2}")
        return dict(record.cells)

    def settings(self):
        return {"most": self.most}


class ServedPoints(Served):
    inputs = {"label": "long", "points": "string"}
    outputs = {"points": "string"}
    condition, stored = "label", ("points",)
    question = "give label or points"
    about = "It draws sets of points."
    example = "The column `label` goes in."
    limits = "It knows points in the plane."

    def __init__(self, config):
        pass

    def conditions(self, cells, model, seeds_B):
        return conditions(model, seeds_B, labels_B=torch.tensor(list(cells)))

    def rows(self, columns):
        return {"points": columns["points"], "label": [0] * len(columns["points"])}

    def result(self, domain, batches):
        sets = [
            p[m].tolist() for points, mask in batches for p, m in zip(points, mask, strict=True)
        ]
        return {"points": sets}


@pytest.fixture(scope="module", autouse=True)
def registered():
    """What someone who adds a domain does: a member of the union, a class, a metric's name."""
    build_domain.register(PointsConfig, PointsDomain)
    serving_for.register(PointsConfig, ServedPoints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "points", PointsIngest)
        patch.setattr(schema, "DomainConfig", ImagesConfig | PointsConfig)
        patch.setitem(SPECS, (CLOSENESS.family, CLOSENESS.key), CLOSENESS)
        yield


def write_points(path, rows: int, seed: int, worst: int = MOST) -> None:
    rng = np.random.default_rng(seed)
    sets = [rng.normal(size=2 * rng.integers(1, worst + 1)).astype(np.float32) for _ in range(rows)]
    table = pa.table({"points": [list(s) for s in sets], "label": [i % 2 for i in range(rows)]})
    pq.write_table(table, path, row_group_size=16)


@pytest.fixture
def config(tmp_path) -> RunConfig:
    write_points(tmp_path / "train-0.parquet", 64, 0)
    write_points(tmp_path / "test-0.parquet", 20, 1)
    base = replace(recipe("smoke"), domain=PointsConfig())
    changes = {
        "name": "points",
        "storage": str(tmp_path / "runs"),
        "data.train": str(tmp_path),
        "model.num_registers": MOST,
        "training.batch_size": BATCH,
        "training.epochs": 1.0,
        "checkpoint.every_images": 32,
        "checkpoint.keep_last": 1,
        "evaluation.every_images": 32,
        "evaluation.num_samples": 4,
    }
    return validate(change(base, changes))


def test_it_trains_evaluates_saves_and_continues_to_the_bit(config):
    straight, continued = straight_and_continued(config, stop=24)
    assert straight.images == 64
    assert {"loss/positions", "eval/closeness", "latent/std"} <= straight.metrics.keys()
    assert straight.metrics["latent/std"] > 0
    model = unite.load(continued.writer.run.uri)
    mask_BK = torch.arange(MOST) < torch.tensor([[2], [MOST]])
    _, points = unite.sample(model, [0, 1], solver="euler", num_steps=2, mask_BK=mask_BK)
    assert points.shape == (2, MOST, 2) and not points[0, 2:].any()


def test_a_model_keeps_the_sizes_of_its_training_set_and_draws_them(config, tmp_path):
    trainer = trained(config)
    sets = pq.read_table(tmp_path / "train-0.parquet").column("points").to_pylist()
    counted = np.bincount([len(flat) // 2 for flat in sets], minlength=MOST + 1)
    model = unite.load(trainer.writer.run.uri)
    write_export(model, to_dict(config), Store.open(tmp_path / "export"))
    for each in (model, unite.load(str(tmp_path / "export"))):
        assert each.statistics.tensors["sizes"].tolist() == counted.tolist()
        samples = draw(each, [0] * 30, config.sampling, seeds_B=range(30))
        sizes_B = samples.mask_BK.sum(1)
        assert len(sizes_B.unique()) > 2 and set(sizes_B.tolist()) <= set(np.flatnonzero(counted))
        alone = draw(each, [0], config.sampling, seeds_B=[7])
        assert torch.equal(alone.mask_BK, samples.mask_BK[7:8]), "a size is its seed's"
        torch.testing.assert_close(alone.reconstruction[0], samples.reconstruction[7])
    drawn = conditions(model, torch.arange(2), sizes_B=[1, 4])
    assert drawn.mask_BK.sum(1).tolist() == [1, 4] and drawn.labels_B.tolist() == [2, 2]
    with pytest.raises(ValueError, match=f"size {MOST + 1}: the model .* of 1 to {MOST}"):
        conditions(model, torch.arange(2), sizes_B=[1, MOST + 1])
    with pytest.raises(ValueError, match="1 sizes were given for 2 samples"):
        conditions(model, torch.arange(2), sizes_B=[1])


def test_a_run_does_not_continue_on_other_statistics(config, monkeypatch):
    trainer = trainer_of(config)
    trainer.requests = lambda: True
    trainer.run()
    trainer.stream.close()
    other = {"sizes": torch.arange(MOST + 1)}
    monkeypatch.setattr(PointsDomain, "statistics", lambda self, train: other)
    with pytest.raises(CheckpointError, match=r"other statistics of its training set \(sizes\)"):
        trainer_of(config)


def test_samples_of_no_class(config):
    """The null class is the only label; whatever asks for classes or guidance is refused."""
    config = replace(config, name="plain", domain=PointsConfig(num_classes=0))
    config = change(config, {"sampling.cfg_scale": 1.0, "flow.class_dropout": 0.0})
    trainer = trained(config)
    model = unite.load(trainer.writer.run.uri)
    _, points = unite.sample(model, num=3, solver="euler", num_steps=2, seeds_B=range(3))
    assert points.shape == (3, MOST, 2)
    with pytest.raises(ValueError, match=r"cfg_scale = 2\.0 has no effect"):
        unite.sample(model, num=3, cfg_scale=2.0)
    with pytest.raises(ValueError, match="labels_B holds 1, but the model has 0 classes"):
        unite.sample(model, [1])
    with pytest.raises(ValueError, match="class-dropout 0.2 has no effect: it acts with classes"):
        require_effect(change(config, {"flow.class_dropout": 0.2}), config)
    with pytest.raises(ValueError, match="cfg-scale 2.0 has no effect"):
        override(config.sampling, {"cfg_scale": 2.0}, num_classes=0)


def gradient(trainer, batch, count):
    """Terms and gradients of a batch in so many groups."""
    trainer.config = change(trainer.config, {"training.accumulation": count})
    trainer.batch = batch
    (player,) = trainer.objective.turns(0)
    names, terms = trainer._accumulate(player)
    found = {
        name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None
    }
    return dict(zip(names, terms, strict=True)) | found


def test_neither_groups_nor_ranks_change_a_loss_or_a_gradient(config):
    trainer = trainer_of(change(config, {"flow.warmup_fraction": 0.0}))
    batch = next(trainer.stream)
    trainer.stream.close()
    move(trainer.model)
    whole = gradient(trainer, batch, 1)
    assert len({int(size) for size in batch.fields["mask"].sum(1)}) > 2
    for count in (2, 4):
        assert_near(gradient(trainer, batch, count), whole)
        shares = []
        for rank in range(count):
            fields = {name: value[rank::count] for name, value in batch.fields.items()}
            rows = {"rows_B": batch.rows_B[rank::count], "epochs_B": batch.epochs_B[rank::count]}
            shares.append(gradient(trainer, SimpleNamespace(fields=fields, **rows), 2))
        assert_near({name: sum(s[name] for s in shares) / count for name in whole}, whole)


def assert_near(found, expected):
    """Equal to 1e-5 of each tensor's size: sums in another order."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-5 * value.norm() + 1e-7, name


@torch.no_grad()
def move(model):
    """Weights away from their start, where zero gates hide what blocks compute."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="module")
def moved():
    config = change(
        replace(recipe("smoke"), domain=PointsConfig()),
        {"model.num_registers": MOST, "sampling.solver": "heun", "sampling.cfg_scale": 1.5},
    )
    model = UNITE(config.model, build_domain(config.domain), config.flow).eval()
    move(model)
    return model, config


@torch.no_grad()
@given(st.integers(1, MOST - 1), st.integers(1, MOST - 1), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_padding_changes_nothing(moved, number, padding, row):
    """Latent, prediction, reconstruction, loss terms, metrics and a whole sample."""
    model, config = moved
    padding = min(padding, MOST - number)
    generator = torch.Generator().manual_seed(row)
    points, z_BKD = (
        torch.randn(1, number, 2, generator=generator),
        torch.randn(1, number, config.model.latent_dim, generator=generator),
    )
    rows_B, t_B = torch.tensor([row]), torch.tensor([0.4])
    results = []
    for more in (0, padding):
        mask = torch.arange(number + more)[None] < number
        sample = {"points": nn.functional.pad(points, (0, 0, 0, more)), "mask": mask}
        address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        step = TrainingStep(model, config, None)
        terms = step.losses(sample, torch.tensor([1]), address, flow_weight=1.0)
        z_t = nn.functional.pad(z_BKD, (0, 0, 0, more))
        denoised = model.denoise(z_t, t_B, mask_BK=mask)
        drawn = draw(model, [1], config.sampling, seeds_B=[row], mask_BK=mask)
        recon = evaluation.reconstruct(model, sample, rows_B, 0)
        assert not denoised[:, number:].any() and not drawn.z_BKD[:, number:].any()
        parts = [step.tokenize(sample, address), denoised, drawn.z_BKD, recon, drawn.reconstruction]
        metrics = model.domain.reconstruction_metrics(recon, sample)
        results.append([*(part[:, :number] for part in parts), *terms.values(), *metrics.values()])
    for alone, padded in zip(*results, strict=True):
        torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def test_the_best_checkpoint_is_kept_by_the_domains_own_metric(config):
    trainer = trained(config)
    score = latest(trainer.writer.run).read_json("state.json")["score"]
    assert score == trainer.metrics["eval/closeness"]


def test_rows_that_it_cannot_use_are_listed(config, tmp_path):
    write_points(tmp_path / "train-1.parquet", 4, 2, worst=40)
    trained(change(config, {"name": "bad", "data.max_bad_fraction": 1.0}))
    listed = read_bad_rows(Store.open(tmp_path / "runs" / "bad"))
    assert {entry["row"] for entry in listed} <= set(range(64, 68))
    assert "1..6 points" in listed[0]["reason"]


@torch.no_grad()
def test_the_evaluation_reconstructs_without_the_padding(config, monkeypatch):
    """As if each set came alone, without a place to spare."""
    model = UNITE(config.model, build_domain(config.domain), config.flow).eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    noise_BKD, t_B = torch.randn(2, MOST, config.model.latent_dim), torch.zeros(2)
    monkeypatch.setattr(passes, "tokenization_noise", lambda *_: (noise_BKD, t_B))
    numbers = [2, 5]
    mask = torch.arange(MOST) < torch.tensor(numbers)[:, None]
    points = torch.randn(2, MOST, 2)
    together = evaluation.reconstruct(model, {"points": points, "mask": mask}, torch.arange(2), 0)
    for index, number in enumerate(numbers):
        row = slice(index, index + 1)
        alone = {"points": points[row, :number], "mask": mask[row, :number]}
        z_BKD = model.tokenize(alone, noise_BKD[row, :number], t_B[row])
        torch.testing.assert_close(
            together[row, :number], model.decode(z_BKD), rtol=1e-4, atol=1e-5
        )


def test_its_operations_are_counted_from_its_own_modules(config):
    terms = training_flops(config).terms
    assert set(terms) == {"tokenize", "denoise", "decode"}
    width = config.model.encoder.width
    fewer = replace(config, domain=PointsConfig(most=MOST))
    assert training_flops(fewer).terms == terms
    assert terms["tokenize"].forward > 2 * MOST * 2 * width


CLOSE = "eval/reconstruction/closeness"


@pytest.fixture
def sweep(config, tmp_path, monkeypatch):
    """Two values of the noise axis, at a scale whose recipe is of points."""
    base = replace(config, name="")
    monkeypatch.setitem(BASES, "points", Base(lambda: base, "sets of points", variants=()))
    scale = Scale(recipe="points", epochs=0.5, seeds=1, num_samples=8, extractors=())
    monkeypatch.setitem(SCALES, "smoke", scale)
    options = SweepOptions(
        scale="smoke",
        values=("0.0", "0.7"),
        data=str(tmp_path),
        storage=str(tmp_path / "runs"),
        tracking=replace(config.tracking, experiment="points"),
    )
    return expand(NOISE, options)


def measured_trial(sweep, trial) -> Measured:
    """A trial that was trained here, measured by the last evaluation of its training."""
    trainer = trained(trial.config)
    run, card = open_run(trial.config), MetricCard(
        metric="closeness", value=trainer.metrics["eval/closeness"], step=trainer.images,
        suite="reconstruction", checkpoint=checkpoint_digest(latest(trainer.writer.run)),
    )  # fmt: skip
    result = Result(
        metrics={CLOSE: card.value, LATENT_STD: trainer.metrics["latent/std"]},
        images=card.step, parameters=trial.parameters, flops=1.0, checkpoint=card.checkpoint,
        cards={CLOSE: card.to_dict()},
    )  # fmt: skip
    write_result(run, trial, result)
    outcome = Outcome(suite="reconstruction", rows=(Row(card=card),))
    write_outcomes(run.folder / "evaluations" / card.checkpoint, [outcome])
    kept = read_result(run, trial)
    assert kept is not None and kept.metrics == result.metrics
    return Measured(trial=trial, result=result, run=run.folder.uri)


def test_a_sweep_is_planned_judged_drawn_and_reported_by_its_own_metric(
    sweep, root, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    plan = sweep_lines(sweep, rate=measure_rate(sweep.trials[0].config, threads=1), slots=1)
    assert "2 of 2 runs to do" in "\n".join(plan)
    done = [measured_trial(sweep, trial) for trial in sweep.trials]
    judged = "\n".join(verdict(NOISE, done))
    assert "closeness (higher is better)" in judged and "PSNR" not in judged
    files = report_files(sweep, done, [])
    assert b">Ours: held-out closeness<" in files["table6_top.svg"]

    parent = start_parent(sweep)
    for each in done:
        trial = each.trial
        handle = tracking.start_run(
            trial.config.tracking, storage=trial.config.storage, name=sweep.label(trial),
            params=flatten(trial.config), config_dict={}, parent_run_id=parent.run_id,
            tags=sweep.tags(trial) | {"run_uri": each.run, "recipe": "points"},
        )  # fmt: skip
        Store.open(each.run).write_json("run.json", {"mlflow_run_id": handle.run_id})
        spool, tags = tmp_path / "spool" / handle.run_id, {"measured": trial.measurement}
        tracking.log_results(
            handle, each.result.metrics, each.result.images, spool=spool, tags=tags
        )
        tracking.finish_run(handle, "FINISHED")
    seen = view(collect(parent.uri, "points", sweep.options.storage))
    (cohort,) = seen.sweeps[0].cohorts
    assert list(cohort.metrics) == ["held-out closeness", "latent/std"]
    assert all(values[0].entries for _, values in cohort.points), "by the cards of its results"
    assert "closeness" in [column.title for column in seen.summary.columns]
    page = render(seen, root / "dashboards", datetime.now(UTC))
    assert "Ours: held-out closeness" in page and ">higher is better<" in page


def test_it_is_evaluated_by_the_suites_that_it_registers(config):
    """Those that know samples through their domain, and one of its own."""
    suites_for.register(PointsConfig, lambda domain: {**SHARED, "extent": EXTENT})
    trainer = trained(config)
    asked = EvaluateArguments(run=trainer.writer.run.uri, num_workers=0, track=False)
    outcomes = {each.suite: each for each in evaluate(open_evaluation(asked, config.storage))}
    assert list(outcomes) == [*SHARED, "extent"]
    values = {row.card.metric: row.card.value for o in outcomes.values() for row in o.rows}
    assert {"closeness_z0", "cka_mean", "total_mb", "top1_pct", "params_m"} <= values.keys()
    assert not {"flat_top1_pct", "psnr_z0"} & values.keys(), "sets have no fixed length, no pixels"
    assert 0 < values["extent"] < 10
    with pytest.raises(ValueError, match="'generation' is unknown for points"):
        open_evaluation(replace(asked, suite=("generation",)), config.storage)


@dataclass(frozen=True, kw_only=True)
class Extent(Suite):
    """Mean distance of held-out points from the origin."""

    suite: ClassVar[str] = "extent"
    draws: ClassVar[bool] = False
    data: Dataset

    @classmethod
    def of(cls, arguments, target):
        held_out = target.held_out
        return cls(total=held_out.num_rows, data=held_out, **common_fields(arguments, target))

    def totals(self, label, device="cpu"):
        return {"extent": Stack("extent")}

    def count(self, totals, instruments, chunk):
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            totals["extent"].update(extent=rows.sample["points"].norm(dim=-1)[rows.mask_BK].numpy())

    def outcome(self, totals):
        mean = totals["extent"].result()["extent"].mean()
        return Outcome(suite=self.suite, rows=(Row(card=self.card("extent", mean)),))


EXTENT = Entry(f"{__name__}:Extent")


def prepared(source, out):
    """The shards of a folder of points, by the command line of its kind."""
    arguments = parse_arguments(["points", str(source), "--out", str(out)], None)
    planned = plan(arguments.ingest)
    text = describe_plan(planned)
    begin_preparation(planned)
    return text, finish(planned, [run_job(job) for job in planned.jobs])


def test_it_is_prepared_trained_exported_and_served(config, tmp_path):
    """One registration in each room, and no word of its kind anywhere else."""
    write_points(tmp_path / "train-0.parquet", 64, 0, worst=MOST + 1)
    text, manifests = prepared(tmp_path, tmp_path / "shards")
    assert ": 64 point sets, without class names" in text
    assert {name: m.domain for name, m in manifests.items()} == {
        "train": "points",
        "eval": "points",
    }
    assert manifests["train"].skipped["too many points"] > 0
    trainer = trained(change(config, {"data.train": str(tmp_path / "shards"), "name": "served"}))
    run = trainer.writer.run
    out = str(tmp_path / "export")
    export(ExportArguments(run=run.uri, out=out), config.storage)
    card = Store.open(out).read("README.md").decode()
    assert "It draws sets of points." in card and "| latent |" in card
    served = _load_pyfunc(out)
    drawn = served.predict({"label": [0, 1, 1]}, {"seed": 3, "num_steps": 2})["points"]
    assert len(drawn) == 3 and all(1 <= len(points) <= MOST for points in drawn)
    again = served.predict({"points": [[0.0, 1.0], [0.5, 0.5, 1.0, 1.0]]})["points"]
    assert [len(points) for points in again] == [1, 2]


def test_a_run_of_another_domain_refuses_its_folder(config, tmp_path):
    prepared(tmp_path, tmp_path / "shards")
    images = change(recipe("smoke"), {"data.train": str(tmp_path / "shards")})
    with pytest.raises(ShardError, match="shards holds points; recipe smoke reads images"):
        trainer_of(change(images, {"storage": str(tmp_path / "runs"), "name": "images"}))
