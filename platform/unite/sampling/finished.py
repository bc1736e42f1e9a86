"""The record of a finished `jobs/generate.py`: in the folder of its samples.

The same command, typed once more, has nothing to draw (`unite.finished`).
"""

from __future__ import annotations

from dataclasses import asdict, replace

from unite.checkpoints.layout import MARKER, checkpoint_digest, latest
from unite.config.serialise import json_digest
from unite.entry import PACKAGE, code_digest
from unite.finished import FILE, Record, fingerprint
from unite.runs import resolve_run
from unite.sampling.arguments import GenerateArguments, check
from unite.storage import Store


def settle(arguments: GenerateArguments, storage: str) -> GenerateArguments:
    """The request with the place of its run in place of a name: `latest` is told once.

    ValueError for numbers that no call can have; CheckpointError as from `resolve_run`.
    """
    check(arguments)
    return replace(arguments, run=resolve_run(arguments.run, arguments.storage or storage))


def record_of(arguments: GenerateArguments) -> Record:
    """The record of a settled request."""
    place, out = Store.open(arguments.run), Store.open(arguments.out)
    checkpoint = place if place.is_file() or place.exists(MARKER) else latest(place) or place
    is_committed = checkpoint.exists(MARKER)
    followed = {
        "code": code_digest(PACKAGE),
        "arguments": asdict(
            replace(arguments, run=checkpoint.uri, out=out.uri, storage="", replace=False)
        ),
        "weights": checkpoint_digest(checkpoint) if is_committed else fingerprint(checkpoint),
    }
    return Record(folder=out, file=FILE, key=json_digest(followed))
