"""Images per second of our stream against torchvision's ImageFolder and DataLoader.

    python benchmarks/stream.py --data TREE

Headline metric: warm decoded images/s of our arm divided by that of the reference arm, on the same
cores, in one run. Goals: at least 4.0 for prepared shards, at least 1.0 for shards of the original
bytes, and under 5 s from opening the stream to its first batch (Ray is up, its data workers cold).

Arms. Reference: ImageFolder, the ADM centre crop to 256 px and PILToTensor in a DataLoader with one
worker process per core, as image generation codes do it. Ours: BatchStream over `ray_reader`, one
decoding thread per core; throughput is timed without the rows that the process reads by itself at
the start, so that Ray Data delivers everything. Both give shuffled uint8 batches of 64, with the
same pixels for the original bytes (checked, printed).

Noise: arms take turns in several rounds after a warm-up, and a ratio divides medians, so a slow
phase of the machine meets both. On a machine with other work look at images per CPU second (of all
processes, Ray's included) beside it: waiting for a core does not count there. The small sample is
repeated through links to `--images`, so files come from the page cache: disks are not measured.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))

import numpy as np
import psutil
import torchvision
import tyro
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, PILToTensor

from unite.cluster.connect import connect
from unite.config.schema import DataConfig, ImagesConfig
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import begin, finish, plan, run_job
from unite.data.loader import BatchStream
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES
from unite.domains.transforms import center_crop_adm, decode_image

SIZE = 256
BATCH = 64
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare our stream with ImageFolder and DataLoader."""

    data: str
    """Tree of class folders with images."""
    images: int = 2000
    """The tree is repeated to this many images."""
    rounds: int = 3
    """Turns of each arm."""
    seconds: float = 8.0
    """Timed seconds of each turn."""


@dataclass
class Turn:
    """Measurements of one turn of an arm."""

    first_batch_s: float
    images_per_s: float
    images_per_cpu_s: float


def main() -> None:
    """Prepare both kinds of shards, take turns, print the table."""
    arguments = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory(prefix="stream-") as folder:
        tree = repeat_tree(Path(arguments.data), Path(folder) / "tree", arguments.images)
        prepared = prepare(tree, Path(folder) / "prepared", original=False)
        original = prepare(tree, Path(folder) / "original", original=True)
        connect()
        print(f"cores {CORES}, load average {os.getloadavg()[0]:.1f}, {arguments.images} images")
        print(f"largest difference of a pixel (original bytes): {difference(tree)}")
        first = {
            name: first_batch(s) for name, s in (("prepared", prepared), ("original", original))
        }
        arms = {
            "torchvision": partial(reference_batches, tree),
            "prepared": partial(our_batches, prepared),
            "original": partial(our_batches, original),
        }
        turns: dict[str, list[Turn]] = {name: [] for name in arms}
        for _ in range(arguments.rounds):
            for name, open_arm in arms.items():
                turns[name].append(measure(open_arm, arguments.seconds))
        report(turns, first)


def repeat_tree(source: Path, target: Path, num_images: int) -> Path:
    """A tree of links to `source` with `num_images` files."""
    files = sorted(path for path in source.resolve().glob("*/*") if path.is_file())
    for index in range(num_images):
        file = files[index % len(files)]
        link = target / file.parent.name / f"{index // len(files):04d}-{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return target


def prepare(tree: Path, out: Path, *, original: bool) -> ShardSet:
    """Shards of the tree, written by this process."""
    planned = plan(ImagesIngest(source=str(tree), out=str(out), size=SIZE, original=original))
    begin(planned)
    finish(planned, [run_job(job) for job in planned.jobs])
    return ShardSet.open(str(out), "train", IMAGES)


def crop(image: Any) -> Any:
    """The reference's transform, in PIL."""
    return center_crop_adm(image.convert("RGB"), SIZE)


def reference_batches(tree: Path) -> Iterator[int]:
    """Sizes of the reference's batches, without end."""
    dataset = torchvision.datasets.ImageFolder(str(tree), Compose([crop, PILToTensor()]))
    loader = DataLoader(
        dataset, BATCH, shuffle=True, num_workers=CORES, persistent_workers=True, drop_last=True
    )
    while True:
        for images, _ in loader:
            yield len(images)


def open_stream(shards: ShardSet, **reader_options: int) -> BatchStream:
    """Our stream through Ray Data."""
    from unite.cluster.stream import ray_reader

    domain = build_domain(ImagesConfig(size=SIZE))
    config = DataConfig(train=shards.uri, decode_threads=CORES)
    reader = partial(ray_reader, **reader_options)
    return BatchStream(shards, domain, config, batch_size=BATCH, seed=0, reader=reader)


def our_batches(shards: ShardSet) -> Iterator[int]:
    """Sizes of our batches, without end."""
    stream = open_stream(shards, head_rows=0)
    try:
        for batch in stream:
            yield len(batch)
    finally:
        stream.close()


def first_batch(shards: ShardSet) -> float:
    """Seconds from opening a stream as training does to its first batch."""
    started = time.perf_counter()
    stream = open_stream(shards)
    next(stream)
    waited = time.perf_counter() - started
    stream.close()
    return waited


def measure(open_arm: Callable[[], Iterator[int]], seconds: float) -> Turn:
    """Open an arm, warm it up, count its images for a while, close it."""
    started = time.perf_counter()
    batches = open_arm()
    next(batches)
    first = time.perf_counter() - started
    for _ in range(2 * CORES):  # What was made ahead of time must not count.
        next(batches)
    started, used, images = time.perf_counter(), cpu_seconds(), 0
    while time.perf_counter() - started < seconds:
        images += next(batches)
    passed, used = time.perf_counter() - started, cpu_seconds() - used
    batches.close()
    return Turn(first, images / passed, images / used)


def cpu_seconds() -> float:
    """CPU time of this process and all below it."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def difference(tree: Path) -> int:
    """Largest difference between our pixels and the reference's over some images."""
    dataset = torchvision.datasets.ImageFolder(str(tree), crop)
    differences = []
    for path, _ in dataset.samples[:: max(1, len(dataset) // 20)]:
        ours = decode_image(Path(path).read_bytes(), SIZE, 3).astype(int)
        differences.append(np.abs(ours - np.asarray(crop(dataset.loader(path)))).max())
    return int(max(differences))


def report(turns: dict[str, list[Turn]], first: dict[str, float]) -> None:
    """The table: medians with their range, and ratios against the goals."""
    rates = {name: [turn.images_per_s for turn in of] for name, of in turns.items()}
    costs = {
        name: statistics.median(turn.images_per_cpu_s for turn in turns[name]) for name in turns
    }
    reference = statistics.median(rates["torchvision"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"{name:<12}{median:8.0f} images/s ({min(values):.0f}..{max(values):.0f})  "
            f"ratio {median / reference:5.2f}   {costs[name]:6.0f} images per CPU s  "
            f"ratio {costs[name] / costs['torchvision']:5.2f}"
        )
    for name, goal in (("prepared", 4.0), ("original", 1.0)):
        ratio = statistics.median(rates[name]) / reference
        print(f"{name}: ratio {ratio:.2f}, goal {goal}: {'met' if ratio >= goal else 'MISSED'}")
    for name, waited in first.items():
        verdict = "met" if waited < 5 else "MISSED"
        print(f"{name}: first batch after {waited:.2f} s, goal under 5 s: {verdict}")
    waited = statistics.median(turn.first_batch_s for turn in turns["torchvision"])
    print(f"torchvision: first batch after {waited:.2f} s")
    print(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
