"""An export: the weights and the config of a model, and nothing that only training needs."""

from __future__ import annotations

from typing import Any

from unite.checkpoints.layout import EXPORT_CONFIG, EXPORT_WEIGHTS
from unite.checkpoints.metadata import config_metadata
from unite.checkpoints.tensors import safetensors_chunks
from unite.models.unite import UNITE
from unite.storage import Store


def write_export(model: UNITE, run_config: dict[str, Any], store: Store) -> None:
    """Write model.safetensors and config.json (a RunConfig as nested dict) below `store`.

    `unite.load` reads the folder. The weights come last, so a broken export has no model.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    store.write_json(EXPORT_CONFIG, run_config)
    store.write(EXPORT_WEIGHTS, safetensors_chunks(state, config_metadata(run_config)))
