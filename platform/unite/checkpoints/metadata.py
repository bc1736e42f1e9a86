"""The config in and beside weights: it makes a single safetensors file of ours complete.

Shapes do not tell where the in-context tokens join, the time shift or the largest tokenization
time. The format's header has room for text, so our files say it there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unite.checkpoints.layout import CheckpointError
from unite.config.finetune import FinetuneRunConfig
from unite.config.schema import RunConfig
from unite.config.serialise import from_dict
from unite.storage import Store

CONFIG_KEY = "unite_config"
PARTS = ("domain", "model", "flow")
"""Groups of a RunConfig from which a model is built."""
LARGEST_HEADER = 100_000_000
"""Largest header in bytes, as in the safetensors library; a longer one means damage."""


def config_metadata(run_config: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a weights file of a run (its config as nested dicts)."""
    parts = {part: run_config[part] for part in PARTS if part in run_config}
    return {CONFIG_KEY: json.dumps(parts, sort_keys=True)}


def read_config(file: Store) -> dict[str, Any]:
    """The config inside a safetensors file, as nested dicts; empty when it holds none.

    Reads the header alone. Any other kind of file holds none.
    """
    with file.filesystem.open_input_file(file.path()) as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length) if length <= LARGEST_HEADER else b""
    try:
        return json.loads(json.loads(header)["__metadata__"][CONFIG_KEY])
    except (ValueError, KeyError, TypeError):
        return {}


def is_run_config(config: Mapping[str, Any]) -> bool:
    """True if a config.json is a run's; the authors' checkpoints have one of another kind."""
    return any(part in config for part in ("recipe", *PARTS))


def parse_config(config: Any, where: str) -> RunConfig:
    """The config of a run from its JSON form; CheckpointError names the file and the field."""
    missing = [part for part in PARTS if not isinstance(config, dict) or part not in config]
    try:
        if missing:
            raise ValueError(f"the config has no field {', '.join(map(repr, missing))}")
        return from_dict(FinetuneRunConfig if "finetune" in config else RunConfig, config)
    except ValueError as error:
        raise CheckpointError(f"{where} is damaged or of another version: {error}") from error
