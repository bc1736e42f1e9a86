"""The loop that the drivers put together, against METHOD 3 written down once more, step by step.

`Plain` shares with the real trainer the model's forward pass, addressed randomness and the order of
an epoch, which have tests of their own, and nothing of `unite.training`. After six steps over 2.4
epochs the weights, their average, the optimisers' state and every logged number must agree, and
each setting must be seen to act: `Plain` without it must not agree.

A tensor is compared by its norm, weights and averages by how far they have come. float32 rounding
(6e-8) grows to 1e-6 of that in six steps. Muon hands its gradients on in bfloat16: where rounding
tips one of them it moves by 4e-3, and the five steps of the orthogonalisation enlarge that.
"""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, Lock, local
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from plain_data import epoch_rows
from unite.checkpoints.store import latest, read_checkpoint
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.loader import local_reader
from unite.data.order import SampleOrder
from unite.domains import build_domain
from unite.flow.random import Purpose, normal, stream_keys, uniform
from unite.models import UNITE
from unite.tracking import Tracker
from unite.training import muon, setup
from unite.training.parallelize import World
from unite.training.runs import begin, open_run

FLOAT32, BFLOAT16 = 3e-4, 5e-2
GROUPS = (26, 34)  # rows per row group: 60 images, none of them symmetric
HELD_OUT = 20
USUAL = {
    "domain.flip": True,
    "flow.steps": 2,
    "flow.class_dropout": 0.4,
    "flow.warmup_fraction": 0.5,
    "flow.reduction": "sum",
    "loss.perceptual.weight": 0.7,
    "loss.reconstruction_weight": 3.0,
    "optim.lr": 5e-4,
    "optim.lr_batch_reference": 12,
    "optim.warmup_epochs": 1.0,
    "optim.grad_clip": 0.5,
    "optim.ema_decay": 0.8,
    "optim.muon_eps": 0.02,
    "optim.weight_decay": 0.1,
    "training.batch_size": 24,
    "training.accumulation": 2,
    "training.epochs": 2.4,
    "training.log_every_steps": 1,
    "training.precision": "float32",
    "training.seed": 3,
    "data.shuffle_window": 8,
    "evaluation.num_images": 16,
}
"""Everything at once, each so strong that it acts."""
OTHER = {
    **USUAL,
    "model.sharing": "separate",
    "optim.muon": False,
    "optim.schedule": "plateau",
    "optim.plateau_epochs": (1.5, 2.0),
    "optim.warmup_epochs": 0.5,
    "flow.stop_gradient": False,
    "flow.chunk": 1,
    "flow.reduction": "mean",
    "flow.loss_space": "data",
    "flow.timesteps": "uniform",
    "reconstruction_noise.form": "additive",
}
"""The other value of every choice."""
OFF = {
    "flips": {"domain.flip": False},
    "class dropout": {"flow.class_dropout": 0.0},
    "the flow loss": {"flow.weight": 0.0},
    "its warm-up": {"flow.warmup_fraction": 0.0},
    "noise before the decoder": {"reconstruction_noise.probability": 0.0},
    "the perceptual loss": {"loss.perceptual.weight": 0.0},
    "half of the limit": {"optim.grad_clip": 0.25},
    "twice the limit": {"optim.grad_clip": 1.0},
    "warm-up": {"optim.warmup_epochs": 0.0},
    "the batch rule": {"optim.lr_batch_reference": 0},
    "Muon's epsilon": {"optim.muon_eps": 1e-7},
    "weight decay": {"optim.weight_decay": 0.0},
    "micro-batches": {"training.accumulation": 1},
    "the average": {"optim.ema_decay": 1.0},
    "the order": {"training.seed": 4},
}


def perceptual(reconstruction, target):
    """In the place of LPIPS, which needs larger images: (B,) of pairs (B, 3, H, W)."""
    return (reconstruction - target).square().mean(dim=(1, 2, 3)) + 0.1


def make_model(config):
    """Seeded as a run is, then moved from its start, where zero gates hide most gradients."""
    torch.manual_seed(config.training.seed)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
    return model


@dataclass
class Plain:
    """METHOD 3 for images on one process; `result` holds all that is compared."""

    config: object
    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    result: dict = field(default_factory=dict)

    def run(self):
        c = self.config
        n, size = len(self.images), c.training.batch_size
        total = math.ceil(c.training.epochs * n / size) * size
        order = SampleOrder(
            GROUPS, seed=c.training.seed, lanes=c.data.lanes, window=c.data.shuffle_window
        )
        epochs = np.arange(total) // n
        rows = np.concatenate([epoch_rows(order, epoch) for epoch in range(epochs[-1] + 1)])
        self.model = make_model(c)
        self.weights = dict(self.model.named_parameters())
        self.average = {name: w.detach().clone() for name, w in self.weights.items()}
        self.state = {name: [torch.zeros_like(w)] * 2 for name, w in self.weights.items()}
        self.result |= {f"0 {name}": v for name, v in self.evaluate().items()}
        for seen in range(0, total, size):
            batch = slice(seen, seen + size)
            terms = self.gradients(rows[batch], epochs[batch], self.ramp(seen, total))
            terms["grad/norm"] = self.clip()
            terms["lr"] = self.rate(seen + size, n, total)
            self.update(terms["lr"], seen // size + 1)
            terms["loss/flow_weight"] = self.ramp(seen + size, total)
            terms |= {"epoch": (seen + size) / n, "data/bad_fraction": 0.0}
            self.result |= {f"{seen + size} {name}": float(v) for name, v in terms.items()}
        self.result |= {f"{total} {name}": v for name, v in self.evaluate().items()}
        self.result |= {f"model.{name}": w.detach() for name, w in self.weights.items()}
        self.result |= {f"ema.{name}": w for name, w in self.average.items()}
        return self.result

    def gradients(self, all_rows, all_epochs, flow_weight):
        """Leaves the mean gradient of the micro-batches; returns the mean of their terms."""
        count, means = self.config.training.accumulation, {}
        self.model.zero_grad()
        for rows, epochs in zip(
            np.split(all_rows, count), np.split(all_epochs, count), strict=True
        ):
            terms, z = self.losses(rows, torch.from_numpy(epochs), flow_weight)
            (terms["loss/total"] / count).backward()
            for name, value in terms.items():
                means[name] = means.get(name, 0.0) + value.detach() / count
        return means | {"latent/std": z.std(0).mean(), "latent/effective_rank": rank(z)}

    def losses(self, rows, epochs, flow_weight):
        c, model, seed = self.config, self.model, self.config.training.seed
        rows_B = torch.from_numpy(rows)

        def keys(purpose, *more):
            return stream_keys(seed, epochs, rows_B, int(purpose), *more)

        x = torch.from_numpy(self.images[rows]).float()[:, None] / 255
        if c.domain.flip:
            for i in (uniform(keys(Purpose.FLIP)) < 0.5).nonzero().flatten():
                x[i] = x[i].flip(-1)
        t_max = c.model.encoder.tokenize_t_max
        noise = normal(keys(Purpose.TOKENIZE_NOISE), model.noise_shape)
        z0 = model.tokenize(x, noise, t_max * uniform(keys(Purpose.TOKENIZE_T)))

        sigma = c.reconstruction_noise.sigma
        eps = normal(keys(Purpose.DECODER_NOISE), model.noise_shape)
        t = column(sigma + (1 - sigma) * uniform(keys(Purpose.DECODER_T)))
        additive = c.reconstruction_noise.form == "additive"
        noised = z0 + sigma * eps if additive else t * z0 + (1 - t) * eps
        gate = column(uniform(keys(Purpose.DECODER_GATE))) < c.reconstruction_noise.probability
        x_hat = model.decode(noised * gate + z0 * ~gate)
        terms = {"loss/l1": (x_hat - x).abs().mean()}
        reconstruction = terms["loss/l1"]
        if w_p := c.loss.perceptual.weight:
            terms["loss/lpips"] = perceptual(*(a.repeat(1, 3, 1, 1) for a in (x_hat, x))).mean()
            reconstruction = reconstruction + w_p * terms["loss/lpips"]
        reconstruction = c.loss.reconstruction_weight * reconstruction

        z = z0.detach() if c.flow.stop_gradient else z0
        flow = 0.0
        for f in range(c.flow.steps):
            t = uniform(keys(Purpose.FLOW_T, f))
            if c.flow.timesteps == "logit_normal":
                t = torch.sigmoid(normal(keys(Purpose.FLOW_T, f)))
            t = c.flow.shift * t / (1 + (c.flow.shift - 1) * t)
            eps = normal(keys(Purpose.FLOW_NOISE, f), model.noise_shape)
            y = torch.from_numpy(self.labels[rows]).clone()
            y[uniform(keys(Purpose.CLASS_DROP, f)) < c.flow.class_dropout] = model.null_label
            z_hat = model.denoise(column(t) * z + (1 - column(t)) * eps, t, y)
            error = z - z_hat
            if c.flow.loss_space == "velocity":
                error = error / column(1 - t).clamp(min=0.05)
            flow = flow + error.square().mean()
        share = flow / c.flow.steps
        weighted = flow_weight * (share if c.flow.reduction == "mean" else flow)
        terms |= {"loss/reconstruction": reconstruction, "loss/flow": share}
        return terms | {"loss/total": reconstruction + weighted}, z0.detach()

    def ramp(self, seen, total):
        length = self.config.flow.warmup_fraction * total
        return self.config.flow.weight * (min(1.0, seen / length) if length else 1.0)

    def clip(self):
        gradients = [w.grad for w in self.weights.values()]
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        for g in gradients:
            g *= min(1.0, self.config.optim.grad_clip / norm)
        return norm

    def rate(self, images, per_epoch, total):
        """Of the step that ends at `images`."""
        o = self.config.optim
        peak, warm = o.lr, o.warmup_epochs * per_epoch
        if o.lr_batch_reference:
            peak *= max(1, self.config.training.batch_size / o.lr_batch_reference)
        if images < warm:
            return peak * images / warm
        first, last, low = warm, total, o.lr_min
        if o.schedule == "plateau":
            first, last = (epochs * per_epoch for epochs in o.plateau_epochs)
            low = peak / 2
        way = min(max((images - first) / (last - first), 0), 1)
        return low + (peak - low) * (1 + math.cos(math.pi * way)) / 2

    @torch.no_grad()
    def update(self, lr, step):
        o = self.config.optim
        for name, w in self.weights.items():
            g, (m, v) = w.grad, self.state[name]
            w *= 1 - lr * o.weight_decay
            if o.muon and w.ndim == 2 and not {"embedder", "final"} & set(name.split(".")):
                m = o.muon_momentum * m + (1 - o.muon_momentum) * g
                nesterov = o.muon_momentum * m + (1 - o.muon_momentum) * g
                w -= lr * 0.2 * math.sqrt(max(w.shape)) * orthogonal(nesterov, o.muon_eps)
                self.result[f"muon.momentum_buffer.{name}"] = m
            else:
                (b1, b2), m, v = o.betas, m.lerp(g, 1 - o.betas[0]), v.lerp(g * g, 1 - o.betas[1])
                w -= lr * (m / (1 - b1**step)) / ((v / (1 - b2**step)).sqrt() + o.eps)
                self.result[f"adamw.exp_avg.{name}"] = m
                self.result[f"adamw.exp_avg_sq.{name}"] = v
                self.result[f"adamw.step.{name}"] = float(step)
            self.state[name] = [m, v]
            self.average[name] = o.ema_decay * self.average[name] + (1 - o.ema_decay) * w

    @torch.no_grad()
    def evaluate(self):
        """Reconstruction of held-out images by the averaged weights."""
        c = self.config
        model = make_model(c)
        model.load_state_dict(self.average, strict=False)
        rows = torch.arange(c.evaluation.num_images)
        x = torch.from_numpy(self.held_out[: len(rows)]).float()[:, None] / 255
        seed, evaluation = c.training.seed, int(Purpose.EVALUATION)
        noise = stream_keys(seed, rows, evaluation, int(Purpose.TOKENIZE_NOISE))
        t = uniform(stream_keys(seed, rows, evaluation, int(Purpose.TOKENIZE_T)))
        z = model.tokenize(x, normal(noise, model.noise_shape), c.model.encoder.tokenize_t_max * t)
        error = (model.decode(z).clamp(0, 1) - x).double()
        psnr = -10 * error.square().mean(dim=(1, 2, 3)).log10()
        return {"eval/psnr": float(psnr.mean()), "eval/l1": float(error.abs().mean())}


def column(values):
    return values[:, None, None]


def rank(z):
    """exp of the entropy of the spectrum of the covariance of channels."""
    p = torch.linalg.eigvalsh(torch.cov(z.flatten(0, 1).double().T)).clamp(min=1e-300)
    p = p / p.sum()
    return torch.exp(-(p * p.log()).sum())


def orthogonal(g, eps):
    """Muon's five quintic Newton-Schulz steps on one matrix, in float32."""
    if g.shape[0] > g.shape[1]:
        return orthogonal(g.T, eps).T
    x = g.bfloat16().float()
    x = x / x.norm().clamp(min=eps)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def all_orthogonal(stack, eps):
    """In the place of the batched rule in bfloat16, which test_muon.py holds against torch's."""
    return torch.stack([orthogonal(matrix, eps) for matrix in stack])


class Ranks:
    """Trainers of one world, a thread each, and what they ask of torch.distributed."""

    def __init__(self, size):
        self.size, self.lock, self.here = size, Lock(), local()
        self.barrier, self.values = Barrier(size, timeout=250), [None] * size

    def train(self, job, rank):
        self.here.rank = rank
        world = World(rank=rank, size=self.size)
        trainer = setup.build_trainer(job, world, Tracker(), local_reader)
        trainer.run()
        trainer.stream.close()
        return trainer.model

    def build_model(self, config):
        with self.lock:  # torch's generator is everybody's
            return make_model(config)

    def gather(self, value):
        self.values[self.here.rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found

    def all_reduce(self, tensor, async_op=False):
        tensor.copy_(sum(self.gather(tensor.clone())))
        return SimpleNamespace(wait=lambda: None)

    def all_gather_into_tensor(self, found, tensor):
        found.copy_(torch.cat(self.gather(tensor.clone())))

    def all_gather_object(self, found, value):
        found[:] = self.gather(value)


@pytest.fixture(scope="module")
def data():
    """uint8 images (N, 8, 8) and labels of both splits."""
    random = np.random.default_rng(0)
    numbers = sum(GROUPS) + HELD_OUT
    images = random.integers(0, 256, (numbers, 8, 8), dtype=np.uint8)
    return images, random.integers(0, 10, numbers)


@pytest.fixture(scope="module")
def real(data, tmp_path_factory):
    """Trains through the run, job and trainer that a worker builds; what it logged and saved."""
    folder = tmp_path_factory.mktemp("plain")
    write_shards(folder / "data", *data)

    def train(changes, size=1):
        places = {"storage": str(folder / "runs"), "data.train": str(folder / "data")}
        run = open_run(replace(recipe("smoke"), {**changes, **places}), resume="never")
        begin(run)
        job = setup.Job.of(run)
        with pytest.MonkeyPatch.context() as patch:
            ranks = Ranks(size)
            patch.setattr(setup, "build_model", ranks.build_model)
            patch.setattr(torch.distributed, "all_reduce", ranks.all_reduce)
            patch.setattr(torch.distributed, "all_gather_object", ranks.all_gather_object)
            gather = ranks.all_gather_into_tensor
            patch.setattr(torch.distributed, "all_gather_into_tensor", gather)
            patch.setattr(setup, "load_perceptual", lambda *_: perceptual)
            patch.setattr(muon, "orthogonalize", all_orthogonal)
            with ThreadPoolExecutor(size) as pool:
                model = [*pool.map(lambda rank: ranks.train(job, rank), range(size))][0]
        saved = read_checkpoint(latest(run.folder))
        found = {
            f"{entry['images']} {name}": value
            for entry in saved.state["history"]
            for name, value in entry.items()
            if name != "images"
        }
        for part in ("model", "ema"):
            names = dict(model.named_parameters())
            found |= {f"{part}.{n}": v for n, v in saved.parts[part].items() if n in names}
        return found | saved.parts["optimizer"]

    return train


def write_shards(folder, images, labels):
    folder.mkdir()
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    table = pa.table({"image": files, "label": labels})
    with pq.ParquetWriter(folder / "train-00000-of-00001.parquet", table.schema) as writer:
        start = 0
        for size in GROUPS:
            writer.write_table(table.slice(start, size))
            start += size
    pq.write_table(table.slice(start), folder / "test-00000-of-00001.parquet")


def plain(changes, data):
    images, labels = data
    n = sum(GROUPS)
    config = replace(recipe("smoke"), changes)
    return Plain(config, images[:n], labels[:n], images[n:]).run()


def disagreements(found, expected, start):
    """Names under which the two do not hold the same up to rounding."""
    wrong = sorted(found.keys() ^ expected.keys())
    for name in found.keys() & expected.keys():
        a, b = (torch.as_tensor(x[name], dtype=torch.float64) for x in (found, expected))
        part, _, key = name.partition(".")
        by_muon = part in ("model", "ema") and f"muon.momentum_buffer.{key}" in expected
        tolerance = BFLOAT16 if by_muon else FLOAT32
        if part in ("model", "ema"):
            b_0 = start[key].detach().double()
            a, b = a - b_0, b - b_0
        if (a - b).norm() > tolerance * b.norm():
            wrong.append(f"{name}: {float((a - b).norm() / b.norm()):.1e}")
    return wrong


@pytest.mark.parametrize(
    ("changes", "acting"), [(USUAL, OFF), (OTHER, ("flips", "class dropout", "twice the limit"))]
)
def test_six_steps_are_those_of_a_plain_trainer(changes, acting, real, data):
    start = dict(make_model(replace(recipe("smoke"), changes)).named_parameters())
    found = real(changes)
    assert disagreements(found, plain(changes, data), start) == []
    for setting in acting:
        without = plain({**changes, **OFF[setting]}, data)
        assert disagreements(found, without, start), f"{setting} did not act"


def test_two_ranks_train_what_one_does(real, data):
    found, expected = (
        {name: value for name, value in result.items() if " latent/" not in name}  # of a rank alone
        for result in (real(USUAL, size=2), plain(USUAL, data))
    )
    start = dict(make_model(replace(recipe("smoke"), USUAL)).named_parameters())
    assert disagreements(found, expected, start) == []
