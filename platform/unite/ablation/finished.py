"""The verdict of a finished sweep: kept in its folder, and told again in a moment.

The same command, typed once more, has nothing to do. It must say so at once, so this module
imports neither torch nor Ray nor MLflow, and does not expand the sweep: it compares what the sweep
was made of, and looks whether every run still has the checkpoint that was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from unite.ablation.options import SweepOptions, check, settle, sweep_folder
from unite.checkpoints.layout import committed
from unite.config.axes import Axis
from unite.config.recipes import recipe
from unite.config.scales import SCALES
from unite.config.schema import TrackingConfig
from unite.config.serialise import to_dict
from unite.storage import StorageError, Store

FILE = "finished.json"


def keep_finished(
    axis: Axis, options: SweepOptions, runs: Mapping[str, int], lines: Sequence[str]
) -> None:
    """Keep the lines of a whole sweep. `runs`: run folder -> images of its measured checkpoint."""
    content = {"made_of": _made_of(axis, options), "runs": dict(runs), "lines": list(lines)}
    sweep_folder(axis, settle(axis, options)).write_json(FILE, content)


def find_finished(axis: Axis, options: SweepOptions) -> list[str] | None:
    """Lines of the sweep, when it is whole and nothing has changed since; else None."""
    check(options)
    folder = sweep_folder(axis, settle(axis, options))
    if not folder.is_file(FILE):
        return None
    try:
        content = folder.read_json(FILE)
        is_same = content["made_of"] == _made_of(axis, options)
        is_newest = all(
            committed(Store(run))[-1:] == [images] for run, images in content["runs"].items()
        )
        return list(content["lines"]) if is_same and is_newest else None
    except (StorageError, KeyError, TypeError, AttributeError):
        return None


def _made_of(axis: Axis, options: SweepOptions) -> str:
    """Digest of all that a sweep follows from: options, axis, scale, recipe."""
    options = replace(settle(axis, options), rate=0.0, wait_s=0.0, tracking=TrackingConfig())
    scale = SCALES[options.scale]
    parts = (asdict(options), axis, scale, to_dict(recipe(scale.recipe)))
    return hashlib.sha256(repr(parts).encode()).hexdigest()
