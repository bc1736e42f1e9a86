"""The record of a finished sweep's verdict, by which the same command tells it again in a moment.

It must say so at once, so this module imports neither torch nor Ray nor MLflow, and does not expand
the sweep: the record is found by what the sweep is made of (`unite.finished`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from unite.ablation.options import SweepOptions, check, settle, sweep_folder
from unite.config.axes import Axis
from unite.config.recipes import recipe
from unite.config.scales import SCALES
from unite.config.serialise import to_dict
from unite.entry import PACKAGE, code_digest
from unite.finished import Record
from unite.storage import Store

FILE = "finished.json"


def record_of(axis: Axis, options: SweepOptions) -> Record:
    """The record of a sweep: of its options, axis, scale and recipe, and of the code.

    ValueError for options that no sweep can have.
    """
    check(options)
    options = settle(axis, options)
    scale, tracking = SCALES[options.scale], options.tracking
    place = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    deciding = replace(options, rate=0.0, wait_s=0.0, tracking=replace(tracking, uri=place))
    parts = (asdict(deciding), axis, scale, to_dict(recipe(scale.recipe)), code_digest(PACKAGE))
    key = hashlib.sha256(repr(parts).encode()).hexdigest()
    return Record(folder=sweep_folder(axis, options), file=FILE, key=key)


def keep(record: Record, lines: Sequence[str], files: Sequence[Store], runs: Iterable[str]) -> None:
    """Keep the lines of a whole sweep, which drew `files` of the checkpoints of `runs`."""
    checkpoints = [Store(run) / "checkpoints" for run in dict.fromkeys(runs)]
    record.keep(lines, [*files, *checkpoints], record.folder / record.file)
