"""`unite inspect` and `unite import-authors`: contents of a checkpoint, and conversion to ours."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from unite.checkpoints.authors import find_state, is_authors, is_average, state_dicts, to_ours
from unite.checkpoints.export import write_export
from unite.checkpoints.layout import AUTHORS_WEIGHTS, EXPORT_WEIGHTS
from unite.checkpoints.load import load, read_tensors
from unite.checkpoints.metadata import parse_config
from unite.checkpoints.store import (
    STATE_FIELDS,
    STATE_FILE,
    CheckpointError,
    committed,
    folder_of,
    part_names,
    read_marker,
    read_state,
)
from unite.config.schema import DomainConfig, ModelConfig, RunConfig
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models import UNITE
from unite.runs import read_record, read_run_config, resolve_run
from unite.storage import Store
from unite.tables import print_table
from unite.words import command, count

COLUMNS = 100
SILENT = "the file does not say"
SHOWN_METRICS = ("eval/", "latent/std")
"""First letters of the metrics that are listed with each checkpoint of a run."""


def inspect(reference: str, storage: str) -> None:
    """Print what a run, a checkpoint, an export or a weights file holds.

    `reference` is what `resolve_run` takes. CheckpointError, after that, when a file of a
    checkpoint does not match its digest, or when the run's config or record is damaged.
    """
    place = Store.open(resolve_run(reference, storage))
    if place.is_file():
        _print_file(place)
    elif place.exists("checkpoints"):
        _print_run(place)
    elif place.exists(STATE_FILE):
        _print_checkpoint(place)
    else:
        _print_file(place / _weights_in(place))


def _weights_in(folder: Store) -> str:
    for name in (EXPORT_WEIGHTS, AUTHORS_WEIGHTS):
        if folder.is_file(name):
            return name
    raise CheckpointError(f"{folder} holds no checkpoint and no weights")


def _print_run(run: Store) -> None:
    found = committed(run)
    rows = []
    for images in found:
        state = read_state(folder_of(run, images), "step", "metrics")
        rows.append((images, state["step"], _metrics(state, SHOWN_METRICS)))
    print(f"run {run}: {count(len(found), 'committed checkpoint')}")
    if found:
        print_table(("images", "step", "metrics"), rows)
        print(f"\nThe newest, {folder_of(run, found[-1]).uri.removeprefix(f'{run}/')}:")
        _print_checkpoint(folder_of(run, found[-1]))
    read_run_config(run.uri)
    read_record(run)


def _metrics(state: Mapping[str, Any], begin: tuple[str, ...] = ("",)) -> str:
    """The metrics whose names begin so, as one text."""
    found = {name: v for name, v in state["metrics"].items() if name.startswith(begin)}
    return ", ".join(f"{name} {value:.4g}" for name, value in found.items()) or "none"


def _print_checkpoint(folder: Store) -> None:
    digests = read_marker(folder)
    rows = [_file_row(folder, name, digest) for name, digest in sorted(digests.items())]
    print_table(("file", "bytes", "tensors", "numbers", "digest"), rows)
    state = read_state(folder, *STATE_FIELDS)
    config = parse_config(state["config"], f"{folder}/{STATE_FILE}")
    parts = part_names(digests)
    _print_facts(
        {
            f"{build_domain(config.domain).noun}s seen": f"{state['images']:,}",
            "step": f"{state['step']:,}",
            "metrics": _metrics(state),
            "recipe": config.recipe,
            **architecture(config.domain, config.model),
            "flow": f"F = {config.flow.steps}, {config.flow.timesteps} t, {config.flow.loss_space} "
            f"loss, shift {config.flow.shift:g}",
            "data manifest": state["manifest_digest"],
            "EMA weights": _yes("ema" in parts),
            "optimiser state": _yes(any("optimizer" in part for part in parts)),
        }
    )
    if any(row[-1] != "ok" for row in rows):
        raise CheckpointError(f"{folder} is damaged; use another checkpoint of the run")


def _file_row(folder: Store, name: str, digest: str) -> tuple[str, Any, Any, Any, str]:
    if not folder.is_file(name):
        return name, "", "", "", "MISSING"
    if folder.digest(name) != digest:
        return name, folder.size(name), "", "", "CHANGED"
    sizes = list(_header_sizes(folder, name)) if name.endswith(".safetensors") else []
    return name, folder.size(name), len(sizes) or "", sum(sizes) or "", "ok"


def _header_sizes(folder: Store, name: str) -> Iterator[int]:
    """Elements of every tensor, from the safetensors header alone."""
    with folder.filesystem.open_input_file(folder.path(name)) as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for tensor, entry in header.items():
        if tensor != "__metadata__":
            yield math.prod(entry["shape"])


def _print_file(file: Store) -> None:
    content = read_tensors(file)
    state = find_state(content, ema=True)
    model = load(file.uri)
    paths = [path for path, _ in state_dicts(content)]
    _print_facts(
        {
            "file": file,
            "layout": "the authors'" if is_authors(state) else "unite",
            "tensors": f"{len(state):,}",
            "numbers": f"{sum(tensor.numel() for tensor in state.values()):,}",
            "precision": ", ".join(sorted({_precision(tensor) for tensor in state.values()})),
            "state dicts": ", ".join(path or "one, unnamed" for path in paths),
            **architecture(model.domain.config, model.config),
            "EMA weights": SILENT if paths == [""] else _yes(any(map(is_average, paths))),
            "optimiser state": _has_optimizer(content),
        }
    )


def _precision(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _has_optimizer(content: Mapping[str, Any]) -> str:
    """Text that says if a nested file has an optimiser; a bare state dict does not say."""
    parts = [str(key).lower() for key, value in content.items() if not isinstance(value, Tensor)]
    return _yes(any("optim" in part for part in parts)) if parts else SILENT


def architecture(domain: DomainConfig, model: ModelConfig) -> dict[str, str]:
    """Parts of a model in words."""
    encoder, decoder = model.encoder, model.decoder
    return {
        **build_domain(domain).facts(),
        "latent": f"{model.num_registers} registers x {model.latent_dim} channels, "
        f"{model.sharing} weights",
        "encoder": f"depth {encoder.depth}, width {encoder.width}, {encoder.num_heads} heads",
        "decoder": f"depth {decoder.depth}, width {decoder.width}, {decoder.num_heads} heads",
    }


def _print_facts(facts: Mapping[str, Any]) -> None:
    """One fact a line; a long one goes on below, broken between words."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        lines = textwrap.wrap(
            str(value), COLUMNS - width, break_long_words=False, break_on_hyphens=False
        )
        print(f"{name:<{width}}" + f"\n{'':<{width}}".join(lines))


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def import_authors(path: str, out: str, *, ema: bool, state: str = "") -> None:
    """Convert an authors' checkpoint to an export folder and report the result for every key.

    CheckpointError when `path` is none, when keys are left over, or when `out` holds a model;
    ValueError for `ema` False beside a `state`, which says by itself what is taken.
    """
    if state and not ema:
        raise ValueError(f"--no-ema has no effect with --state {state}, which names the weights")
    file, target = Store.open(path), Store.open(out)
    if not file.is_file():
        file = file / _weights_in(file)
    if target.exists(EXPORT_WEIGHTS):
        raise CheckpointError(f"{target} already holds a model; name another --out")
    tensors = find_state(read_tensors(file), ema=ema, state=state)
    if not is_authors(tensors):
        raise CheckpointError(f"{file} is not in the authors' layout; unite.load reads it as it is")
    _, report = to_ours(tensors)
    for line in report.lines():
        print(line)
    model = load(file.uri, ema=ema, state=state)
    write_export(model, _run_config(model), target)
    print(
        f"\n{len(report.mapped)} mapped, {len(report.dropped)} dropped, "
        f"{len(report.unknown)} unknown, {len(report.missing)} missing\n"
        f"wrote {target}. Sample from it: "
        + command("python", "jobs/generate.py", "--run", target.uri, "--labels", "0-9")
    )


def _run_config(model: UNITE) -> dict[str, Any]:
    parts = {"domain": model.domain.config, "model": model.config, "flow": model.flow}
    return to_dict(RunConfig(recipe="imported", **parts))
