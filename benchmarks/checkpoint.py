"""Time that a checkpoint adds to training: asynchronous save against a synchronous one.

    python benchmarks/checkpoint.py [--width 512] [--rounds 12]

Headline: added time of an asynchronous save / added time of a synchronous one; goal at most 0.1.
Both arms run in one process on the same model, in alternating rounds; a round is the same number
of training steps with one save after the first, and lasts until a background save has ended. Added
time = round - the round without any save beside it, as the median over rounds, so a slow phase of
the machine hits all alike. What the save costs in the background (copying, hashing and writing take
cores and memory bandwidth) is inside its figure; on a CPU the steps leave one core free for it
(`--threads`), as they would on a GPU.

Beside it stands the time inside `save` alone, and the spread of the added time (quartiles).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch

from unite.checkpoints.store import CheckpointWriter
from unite.config.recipes import recipe, small_model
from unite.config.schema import CheckpointConfig
from unite.config.serialise import replace, to_dict
from unite.storage import Store
from unite.training.ema import Ema
from unite.training.muon import build_optimizers
from unite.training.setup import build_model
from unite.training.step import Address, TrainingStep

STEPS_PER_ROUND = 3
BATCH = 8


class Arm:
    """A model, its optimiser and average, and the steps of a round."""

    def __init__(self, width: int, device: torch.device) -> None:
        model = small_model(width=width, depth=4, heads=8, registers=16, latent=8, context=4)
        config = replace(recipe("digits"), {"model": model, "flow.steps": 1})
        self.config, self.device = config, device
        self.model = build_model(config).to(device)
        self.optimizers = build_optimizers(self.model, config.optim)
        self.ema = Ema(self.model, config.optim.ema_decay)
        self.step = TrainingStep(self.model, config, None)

    def train(self, writer: CheckpointWriter | None = None) -> None:
        """One training step on fixed random images; the weights wait for a copy of `writer`."""
        rows_B = torch.arange(BATCH, device=self.device)
        images = torch.rand(BATCH, 1, 8, 8, device=self.device)
        address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        self.optimizers.zero_grad()
        self.step.backward(images, rows_B % 10, address, flow_weight=1.0)
        if writer is not None:
            writer.settle()
        self.optimizers.step()
        self.ema.update()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def parts(self) -> dict[str, dict[str, torch.Tensor]]:
        """Tensors of a checkpoint, by part and name."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_tensors(),
            "optimizer": self.optimizers.state_tensors(),
        }


def timed_round(arm: Arm, writer: CheckpointWriter | None, images: int) -> tuple[float, float]:
    """Seconds of a round, and of those in the save after its first step when there is a writer."""
    started = time.perf_counter()
    arm.train()
    blocked = 0.0
    if writer is not None:
        state = {"images": images, "metrics": {}, "config": to_dict(arm.config)}
        before = time.perf_counter()
        writer.save(arm.parts(), state)
        blocked = time.perf_counter() - before
    for _ in range(STEPS_PER_ROUND - 1):
        arm.train(writer)
    if writer is not None:
        writer.wait()
    return time.perf_counter() - started, blocked


def measure(arm: Arm, folder: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each round, and inside its save, per kind of save, kinds in turn."""
    writers = {
        "none": None,
        "synchronous": make_writer(folder, "sync", asynchronous=False),
        "asynchronous": make_writer(folder, "async", asynchronous=True),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in writers}
    for number in range(rounds + 1):
        for name, writer in writers.items():
            timed = timed_round(arm, writer, number + 1)
            if number:  # the first round fills buffers and caches
                seconds[name].append(timed)
    return seconds


def make_writer(folder: str, name: str, *, asynchronous: bool) -> CheckpointWriter:
    """A writer that keeps one checkpoint."""
    config = CheckpointConfig(keep_last=1, keep_best=0, asynchronous=asynchronous)
    return CheckpointWriter(run=Store.open(f"{folder}/{name}"), config=config)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512, help="width of the model")
    parser.add_argument("--rounds", type=int, default=12, help="counted rounds per arm")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    spare = max(1, (os.cpu_count() or 1) - 1)
    parser.add_argument("--threads", type=int, default=spare, help="of the training steps (CPU)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arm = Arm(arguments.width, torch.device(arguments.device))
    size = sum(t.numel() * t.element_size() for part in arm.parts().values() for t in part.values())
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(arm, folder, arguments.rounds)
    print(f"checkpoint of {size / 2**20:.0f} MiB on {arguments.device}, torch {torch.__version__}")
    print(f"{arguments.rounds} rounds of {STEPS_PER_ROUND} steps; seconds, medians")
    added = {name: added_seconds(seconds[name], seconds["none"]) for name in seconds}
    inside = {name: statistics.median(b for _, b in rows) for name, rows in seconds.items()}
    for name, rows in seconds.items():
        low, middle, high = added[name]
        print(
            f"{name:<14} round {statistics.median(r for r, _ in rows):.3f}  "
            f"added {middle:+.3f} ({low:+.3f}..{high:+.3f})  inside the save {inside[name]:.3f}"
        )
    ratio = added["asynchronous"][1] / added["synchronous"][1]
    print(f"asynchronous / synchronous: {ratio:.3f}")
    print(f"inside the save alone: {inside['asynchronous'] / inside['synchronous']:.3f}")


def added_seconds(
    rows: list[tuple[float, float]], without: list[tuple[float, float]]
) -> tuple[float, float, float]:
    """Quartiles of what rounds took beyond the rounds without a save beside them."""
    if rows is without:
        return 0.0, 0.0, 0.0
    differences = [a - b for (a, _), (b, _) in zip(rows, without, strict=True)]
    low, middle, high = statistics.quantiles(differences, n=4)
    return low, middle, high


if __name__ == "__main__":
    main()
