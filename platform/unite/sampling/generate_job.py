"""`jobs/generate.py`: samples of a run's model as files of its domain, in one process."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Self, cast

import torch
from rich.progress import BarColumn, TextColumn

from unite import terminal
from unite.checkpoints.load import load
from unite.config.effects import override, refuse_changed
from unite.config.schema import Precision, SamplingConfig
from unite.config.serialise import to_dict
from unite.domains.base import Domain
from unite.flow import NOISE_VERSION
from unite.models.unite import UNITE
from unite.runs import read_run_config, resolve_run
from unite.sampling.arguments import GenerateArguments, check
from unite.sampling.finished import record_of
from unite.sampling.generator import generate_batches
from unite.sampling.precision import card_batch, choose_precision, device_memory
from unite.sampling.protocol import describe
from unite.sampling.sample_folder import weights_digest
from unite.sampling.seeds import Conditions, conditions, sample_seeds
from unite.sampling.writers import Writer, writer_for
from unite.storage import Store
from unite.words import clock, count

logger = logging.getLogger(__name__)

CPU_BATCH = 64
"""Samples drawn at once on a CPU."""
PLAIN_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def generate(arguments: GenerateArguments, default_storage: str) -> Store:
    """Draw the samples and write them; returns the folder that holds them.

    ValueError, CheckpointError or StorageError say what is wrong with the input.
    """
    arguments = _counted(arguments)
    check(arguments)
    path = resolve_run(arguments.run, arguments.storage or default_storage)
    settings = choose_settings(arguments, path)
    out = Store.open(arguments.out)
    out.check_writable()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    record = record_of(replace(arguments, run=path))
    model = load(path, ema=arguments.ema, map_location=device)
    writer = writer_for(model.domain.config, out)
    labels = cycle_labels(arguments, model.domain.num_classes)
    drawn_under = conditions(
        model,
        sample_seeds(arguments.seed, torch.arange(arguments.num)),
        labels_B=labels,
        sizes_B=parse_sizes(arguments.sizes) or None,
    )
    if unseen := unseen_sizes(model, parse_sizes(arguments.sizes), labels):
        logger.warning(
            "the model never saw samples of size %s: it extrapolates", ", ".join(map(str, unseen))
        )
    print(begun := f"{path} on {device}, {precision}: {describe(settings)}")
    started = time.perf_counter()
    request = _request(model, arguments, settings, precision)
    kept = writer.claim(request, replace=arguments.replace)
    nfe = _draw_all(model, drawn_under, arguments, settings, precision, writer, kept)
    seconds = time.perf_counter() - started
    files = writer.finish(labels)
    drawn = len(labels) - len(kept)
    there = f", {len(kept)} were there" if kept else ""
    ended = (
        f"{count(drawn, 'sample')} in {seconds:.1f} s ({drawn / seconds:.1f}/s, "
        f"{count(round(nfe), 'evaluation')} each){there}: {files}"
    )
    print(ended)
    record.keep([begun, ended], writer.left, out)
    return out


def _request(
    model: UNITE, arguments: GenerateArguments, settings: SamplingConfig, precision: Precision
) -> dict[str, Any]:
    """Everything that the samples depend on, as JSON; float32, which was all there was, is left
    out."""
    return {
        "weights": weights_digest(model.state_dict()),
        "labels": parse_labels(arguments.labels, model.domain.num_classes),
        "num": arguments.num,
        **({"sizes": arguments.sizes} if arguments.sizes else {}),
        "seed": arguments.seed,
        "sampling": to_dict(settings),
        "noise": NOISE_VERSION,
        **({"precision": precision} if precision != "float32" else {}),
    }


def parse_labels(text: str, num_classes: int) -> list[int]:
    """Classes from numbers and ranges, such as "0-4,8"; empty means all of them.

    ValueError names the part that is none, and the classes that there are.
    """
    if not num_classes:
        if text.strip():
            raise ValueError(f"--labels {text!r} has no effect: the model has no classes")
        return [0]  # the null class
    labels: list[int] = []
    for part in text.split(",") if text.strip() else [f"0-{num_classes - 1}"]:
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part.strip())
        if match is None:
            raise ValueError(f"--labels {text!r}: {part!r} is neither a class nor a range like 0-9")
        first, last = match.groups()
        chosen = range(int(first), int(last or first) + 1)
        if not chosen or chosen[-1] >= num_classes:
            raise ValueError(
                f"--labels {text!r}: {part!r} does not lie in 0-{num_classes - 1}; the model has "
                f"{count(num_classes, 'class', 'classes')}"
            )
        labels.extend(chosen)
    return labels


def parse_sizes(text: str) -> list[int]:
    """Size of each sample from sizes and numbers of samples, such as "9x20,18x80".

    ValueError names the part that is neither.
    """
    sizes: list[int] = []
    for part in text.split(",") if text.strip() else []:
        match = re.fullmatch(r"([0-9]+)x([1-9][0-9]*)", part.strip())
        if match is None:
            raise ValueError(f"--sizes {text!r}: {part!r} is no size and number such as 9x20")
        sizes.extend([int(match[1])] * int(match[2]))
    return sizes


def unseen_sizes(model: UNITE, sizes: Sequence[int], labels: torch.Tensor) -> list[int]:
    """Those of the sizes, each once, that no sample of its training set had; in a model of several
    kinds, no sample of the kind that the label at the size's place names."""
    histogram = model.statistics.tensors.get("sizes")
    if histogram is None:
        return []
    by_kind = histogram.reshape(-1, histogram.shape[-1])
    pairs = zip(sizes, labels.tolist(), strict=False)  # there are no sizes where none are given
    return sorted({size for size, label in pairs if not by_kind[label % len(by_kind), size]})


def _counted(arguments: GenerateArguments) -> GenerateArguments:
    """The arguments with the number of samples that `sizes` ask for."""
    num = len(parse_sizes(arguments.sizes))
    if not num or arguments.num == num:
        return arguments
    refuse_changed(arguments, ["num"], f"with --sizes, which ask for {count(num, 'sample')}")
    return replace(arguments, num=num)


def cycle_labels(arguments: GenerateArguments, num_classes: int) -> torch.Tensor:
    """Class of each sample (N,): the requested classes in turn."""
    labels = torch.tensor(parse_labels(arguments.labels, num_classes))
    return labels[torch.arange(arguments.num) % len(labels)]


def choose_settings(arguments: GenerateArguments, path: str) -> SamplingConfig:
    """The run's own sampling settings, changed by the flags that were given.

    ValueError for values out of range and for flags that would do nothing.
    """
    config = read_run_config(path)
    base = SamplingConfig() if config is None else config.sampling
    chosen = {item.name: getattr(arguments, item.name, None) for item in fields(base)}
    given = {name: value for name, value in chosen.items() if value is not None}
    return override(base, given, num_classes=1 if config is None else config.domain.num_classes)


def choose_device(name: str) -> torch.device:
    """The requested device, or the best there is; ValueError when it is not there."""
    accelerated = torch.cuda.is_available()
    if not name:
        return torch.device("cuda" if accelerated else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cuda":
            torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name!r} is none here; use cpu, cuda or cuda:1") from error
    usable = torch.cuda.device_count() if accelerated else 0  # an old driver counts its GPUs, too
    if device.type == "cuda" and (device.index or 0) >= usable:
        raise ValueError(
            f"--device {name}: this machine has {usable} CUDA devices that torch can use; use cpu"
        )
    return device


def _draw_all(
    model: UNITE,
    drawn_under: Conditions,
    arguments: GenerateArguments,
    settings: SamplingConfig,
    precision: Precision,
    writer: Writer,
    kept: set[int],
) -> float:
    """Draw and write the samples whose indices are not in `kept`, batch by batch; returns their
    mean number of evaluations."""
    labels, mask = drawn_under.labels_B, drawn_under.mask_BK
    missing = torch.tensor([index for index in range(len(labels)) if index not in kept])
    if not len(missing):
        return 0.0
    seeds, device = sample_seeds(arguments.seed, missing), next(model.parameters()).device
    usual = card_batch(device_memory(device)) if device.type == "cuda" else CPU_BATCH
    evaluations = drawn = 0
    with Drawing(len(missing), cast(Domain, model.domain).noun) as drawing:
        for samples in generate_batches(
            model,
            labels[missing],
            seeds,
            arguments.batch_size or usual,
            settings,
            mask=None if mask is None else mask[missing],
            precision=precision,
        ):
            indices = missing[drawn : drawn + len(samples.labels_B)]
            writer.write(indices.tolist(), samples)
            drawn += len(indices)
            evaluations += int(samples.nfe_B.sum())
            drawing.show(drawn)
    return evaluations / len(missing)


class Drawing:
    """Progress of drawing: a live line in a terminal, else a line every ten seconds."""

    def __init__(self, total: int, noun: str = "image") -> None:
        self.total, self.noun = total, noun
        self.started = self.shown = time.monotonic()
        columns = (BarColumn(bar_width=16), TextColumn("{task.description}"))
        self.bar = terminal.progress(*columns, transient=True)
        self.task = self.bar.add_task(self.describe(0), total=total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.bar.stop()

    def show(self, drawn: int) -> None:
        """Show the number of samples drawn so far."""
        self.bar.update(self.task, completed=drawn, description=self.describe(drawn))
        if self.bar.disable and time.monotonic() - self.shown >= PLAIN_SECONDS:
            self.shown = time.monotonic()
            terminal.tell(self.describe(drawn))

    def describe(self, drawn: int) -> str:
        """The line: samples drawn of all, rate, time left."""
        line = f"{drawn:,} of {count(self.total, self.noun)} drawn"
        if not drawn:
            return line
        rate = drawn / max(time.monotonic() - self.started, 1e-9)
        return f"{line}  {rate:,.1f}/s  {clock((self.total - drawn) / rate)} left"
