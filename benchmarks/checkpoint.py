"""Time that a checkpoint adds to training: asynchronous save against a synchronous one.

    python benchmarks/checkpoint.py [--width 512] [--rounds 5]

Headline: added time of an asynchronous save / added time of a synchronous one; goal at most 0.1.
Both arms run in one process on the same model, in alternating rounds; a round is the same number
of training steps with one save after the first. Added time = round - a round without any save,
as medians over rounds, so a slow phase of the machine hits all three alike. What the save costs in
the background (hashing and writing take cores and memory bandwidth) is inside its figure; on a CPU
the steps leave one core free for it (`--threads`), as they would on a GPU.

Beside it stands the time inside `save` alone: what the training thread waits for.
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

STEPS_PER_ROUND = 6
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
        """What a checkpoint holds."""
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
    elapsed = time.perf_counter() - started
    if writer is not None:
        writer.wait()
    return elapsed, blocked


def measure(arm: Arm, folder: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of a round, and inside its save, per kind of save, kinds in turn."""
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
    return {
        name: (statistics.median(r for r, _ in rows), statistics.median(b for _, b in rows))
        for name, rows in seconds.items()
    }


def make_writer(folder: str, name: str, *, asynchronous: bool) -> CheckpointWriter:
    """A writer that keeps one checkpoint."""
    config = CheckpointConfig(keep_last=1, keep_best=0, asynchronous=asynchronous)
    return CheckpointWriter(run=Store.open(f"{folder}/{name}"), config=config)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512, help="width of the model")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds per arm")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    spare = max(1, (os.cpu_count() or 1) - 1)
    parser.add_argument("--threads", type=int, default=spare, help="of the training steps (CPU)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arm = Arm(arguments.width, torch.device(arguments.device))
    size = sum(t.numel() * t.element_size() for part in arm.parts().values() for t in part.values())
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(arm, folder, arguments.rounds)
    added = {name: value - seconds["none"][0] for name, (value, _) in seconds.items()}
    print(f"checkpoint of {size / 2**20:.0f} MiB on {arguments.device}, torch {torch.__version__}")
    for name, (value, blocked) in seconds.items():
        print(
            f"{name:<14}{value:8.3f} s a round of {STEPS_PER_ROUND} steps{added[name]:+9.3f} s, "
            f"{blocked:.3f} s inside the save"
        )
    print(f"asynchronous / synchronous: {added['asynchronous'] / added['synchronous']:.3f}")
    inside = seconds["asynchronous"][1] / seconds["synchronous"][1]
    print(f"inside the save alone: {inside:.3f}")


if __name__ == "__main__":
    main()
