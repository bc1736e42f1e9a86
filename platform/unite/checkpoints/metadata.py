"""The config inside a weights file: it makes a single safetensors file of ours complete.

Shapes do not tell where the in-context tokens join, the time shift or the largest tokenization
time. The format's header has room for text, so our files say it there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
