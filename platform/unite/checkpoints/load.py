"""`load(path)`: a model from anything that holds one, local or on S3.

Understood: a checkpoint folder, a run's folder (its newest committed checkpoint), an export folder,
and single .safetensors or .pt files in our layout or the authors'. No file can run code.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from unite.checkpoints.authors import (
    find_state,
    is_authors,
    listed,
    to_ours,
)
from unite.checkpoints.infer import ROTARY_KEY, Hints, hints_from_config, infer_configs
from unite.checkpoints.layout import AUTHORS_WEIGHTS, EXPORT_CONFIG, EXPORT_WEIGHTS, no_model
from unite.checkpoints.metadata import is_run_config, parse_config, read_config
from unite.checkpoints.store import (
    MARKER,
    STATE_FILE,
    CheckpointError,
    latest,
    read_checkpoint,
    read_state,
)
from unite.config.schema import DomainConfig, FlowConfig, ModelConfig
from unite.content import beginning, kind_of, stand_in
from unite.domains import build_domain
from unite.models.positions import rotary_table
from unite.models.unite import UNITE
from unite.storage import Store

STATISTICS = "statistics."
"""Beginning of the keys of `UNITE.statistics`, whose names and shapes follow from the data."""
_REFUSED = re.compile(r"Unsupported (?:global: GLOBAL|class|operand) (\S+)")
"""Pattern in torch's message that names the code which a file asks to run."""


def load(
    path: str,
    *,
    ema: bool = True,
    map_location: str | torch.device = "cpu",
    state: str = "",
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
    in_context_start: int | None = None,
) -> UNITE:
    """The model at `path` in evaluation mode.

    `ema` takes the averaged weights where both kinds are there; `state` is the path of one state
    dict in a file that holds several ("ema_1"). Weights of another precision become float32. The
    last three arguments are needed only for a bare state dict whose shapes leave them open; a
    warning says what is assumed. Raises CheckpointError (no such path, not committed, damaged,
    another architecture) or StorageError.
    """
    given = {
        "encoder_heads": encoder_heads,
        "decoder_heads": decoder_heads,
        "in_context_start": in_context_start,
    }
    hints = {name: value for name, value in given.items() if value is not None}
    place = Store.open(path)
    if not place.exists():
        raise CheckpointError(f"there is nothing at {place}")
    choice = Choice(ema=ema, state=state, hints=hints)
    model = _load_file(place, choice) if place.is_file() else _load_folder(place, choice)
    return model.to(map_location).eval()


def build_model(
    domain: DomainConfig, model: ModelConfig, flow: FlowConfig, state: Mapping[str, Tensor]
) -> UNITE:
    """A UNITE of these configs that holds `state`; CheckpointError lists every key that differs.

    No memory is spent on initial weights.
    """
    with torch.device("meta"):
        built = UNITE(model, build_domain(domain), flow)
    built.statistics.take(
        {
            name.removeprefix(STATISTICS): tensor
            for name, tensor in state.items()
            if name.startswith(STATISTICS)
        }
    )
    expected = built.state_dict()
    check_keys(expected, state)
    built.load_state_dict(_cast(state, expected), assign=True)
    return built


def _cast(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the precision that the model computes with; a warning names cast ones."""
    others = [name for name, tensor in state.items() if tensor.dtype != expected[name].dtype]
    kinds = sorted({str(state[name].dtype).removeprefix("torch.") for name in others})
    whole = [name for name in others if not state[name].is_floating_point()]
    if whole:
        raise CheckpointError(
            f"{len(whole)} weights are {', '.join(kinds)}, not floating-point numbers "
            f"({listed(whole)}): they were quantised; use the file that they were made from"
        )
    if others:
        warnings.warn(
            f"{len(others)} of {len(state)} weights are {', '.join(kinds)}; they are cast to "
            "float32, in which the model computes",
            stacklevel=1,
        )
    return {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Choice of weights, and facts that their shapes cannot tell."""

    ema: bool
    state: str
    hints: Mapping[str, Any]


def _load_folder(folder: Store, choice: Choice) -> UNITE:
    """A checkpoint, run, export or authors' folder, told apart by the files in it."""
    if folder.exists(STATE_FILE) or folder.exists(MARKER):
        return _load_checkpoint(folder, choice)
    if folder.exists("checkpoints"):
        newest = latest(folder)
        if newest is None:
            raise CheckpointError(
                f"the run {folder} has no committed checkpoint yet: a checkpoint counts once its "
                f"{MARKER} file is written"
            )
        return _load_checkpoint(newest, choice)
    for name in (EXPORT_WEIGHTS, AUTHORS_WEIGHTS):
        if folder.is_file(name):
            return _load_file(folder / name, choice)
    raise no_model(folder)


def _load_checkpoint(folder: Store, choice: Choice) -> UNITE:
    if choice.state:
        raise CheckpointError(f"state {choice.state!r}: {folder} is a checkpoint; choose by `ema`")
    part = "ema" if choice.ema else "model"
    checkpoint = read_checkpoint(folder, (part,))
    config = parse_config(checkpoint.state.get("config"), f"{folder}/{STATE_FILE}")
    return build_model(config.domain, config.model, config.flow, checkpoint.parts[part])


def _load_file(file: Store, choice: Choice) -> UNITE:
    """A single file, with the config in it or beside it when there is one."""
    try:
        state = find_state(read_tensors(file), ema=choice.ema, state=choice.state)
        config = read_config(file) or _config_beside(file)
        if is_authors(state):
            return _from_authors(state, replace(hints_from_config(config), **choice.hints))
        if is_run_config(config):
            run = parse_config(config, f"the config in or beside {file}")
            return build_model(run.domain, run.model, run.flow, state)
        return build_model(*infer_configs(state, Hints(**choice.hints)), state)
    except CheckpointError as error:
        if file.uri in str(error):
            raise
        raise CheckpointError(f"{file}: {error}") from error


def _from_authors(state: Mapping[str, Tensor], hints: Hints) -> UNITE:
    ours, report = to_ours(state)
    _raise_problems({"unexpected": report.unknown, "missing": report.missing})
    cosines_SE = state.get(ROTARY_KEY)
    width = None if cosines_SE is None else cosines_SE.shape[-1]
    model = build_model(*infer_configs(ours, hints, width), ours)
    if cosines_SE is not None:
        _check_rotary(model, cosines_SE)
    return model


def _check_rotary(model: UNITE, cosines_SE: Tensor) -> None:
    """CheckpointError unless their rotary table, which is dropped, equals ours (angles twice)."""
    encoder = model.config.encoder
    head_width = encoder.width // encoder.num_heads
    expected, _ = rotary_table(len(cosines_SE), head_width)
    if not torch.allclose(expected, cosines_SE[:, ::2].to(expected), atol=1e-4):
        raise CheckpointError(f"{ROTARY_KEY} holds other rotary angles than METHOD 1's")


def read_tensors(file: Store) -> dict[str, Any]:
    """The content of a safetensors or PyTorch file, told by its first bytes whatever its name.

    CheckpointError when it is neither, or cannot be trusted.
    """
    head = file.head()
    if why := stand_in(head):
        raise CheckpointError(f"{file} {why}")
    match kind_of(head):
        case "safetensors":
            return _read_safetensors(file)
        case "zip" | "pickle":
            return _read_torch(file)
    raise CheckpointError(
        f"{file} is no weights file, or is damaged: it {beginning(head)}. Weights are read from "
        "safetensors and from PyTorch's files (.pt, .pth, .ckpt, .bin)"
    )


def _read_safetensors(file: Store) -> dict[str, Tensor]:
    try:
        if file.is_local:
            return safetensors.torch.load_file(file.path())
        return safetensors.torch.load(file.read())
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged or cut short: {error}") from error


def _read_torch(file: Store) -> dict[str, Any]:
    """A PyTorch file, restricted to tensors and plain containers: it never runs code.

    What torch says of a file that it refuses is not passed on: it advises to open it all the same.
    """
    # torch goes by a path's ending: it would take a pickle called .safetensors for what it says.
    by_path = file.is_local and not file.name.endswith(".safetensors")
    source = file.path() if by_path else io.BytesIO(file.read())
    try:
        # Mapped files cost no memory for the optimiser states that come along.
        mapped = by_path and zipfile.is_zipfile(source)
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = _REFUSED.search(str(error))
        what = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{file} is damaged or holds more than tensors{what}. It was not opened, because that "
            "could run code. Save the state dict alone as .safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file} is damaged, cut short, or not made by torch.save of a state dict "
            f"({type(error).__name__})"
        ) from error


def _config_beside(file: Store) -> dict[str, Any]:
    """The config that belongs to a file: of its export, its checkpoint, or the authors' JSON."""
    folder = Store(file.uri.rsplit("/", 1)[0])
    if folder.is_file(STATE_FILE):
        return read_state(folder, "config")["config"]
    there = folder.is_file(EXPORT_CONFIG)
    return folder.read_json(EXPORT_CONFIG, {}, CheckpointError) if there else {}


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """CheckpointError listing the keys by which `state` differs from what a model expects."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    both = wanted.keys() & shapes.keys()
    differing = (name for name in sorted(both) if shapes[name] != wanted[name])
    _raise_problems(
        {
            "missing": sorted(wanted.keys() - shapes.keys()),
            "unexpected": sorted(shapes.keys() - wanted.keys()),
            "of another shape": [
                f"{name} {shapes[name]}, not {wanted[name]}" for name in differing
            ],
        }
    )


def _raise_problems(problems: Mapping[str, Sequence[str]]) -> None:
    """CheckpointError that lists faulty keys by their fault, if there are any."""
    if any(problems.values()):
        text = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(f"the weights belong to another architecture. {text}")
