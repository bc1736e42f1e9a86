"""Runs as MLflow's pages show them: kind of experiment, description, data sets, order of charts.

MLflow's pages draw charts in the order of metrics' names, in sections by what stands before the
last slash, and choose the first three for a comparison. `shown_name` and `shown_image` therefore
put what is about the machine under `system/`, a page of its own, what is about an adversary under
`training/`, and the samples beside the evaluation, so that evaluation, latents and losses come
first.

A description is written from what the run has: its command, its headline numbers, where to look. It
is written anew at the start, at the end and after an evaluation, unless somebody has edited it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unite.metrics.specs import SPECS, spec_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

NOTE_TAG = "mlflow.note.content"
WRITTEN_TAG = "note_digest"
"""Tag with the digest of the last written description: another one was edited by hand."""
COMMAND_TAG = "command"
HAS_IMAGES = "mlflow.loggedImages"
"""Tag by which MLflow's pages know that a run has pictures by step."""
SAMPLES = "samples"
EXPERIMENT_TAGS = {
    # Without it the UI opens in its view of language models' traces.
    "mlflow.experimentKind": "custom_model_development",
    NOTE_TAG: "Runs of UNITE. The step of every metric is the number of training images seen. "
    "Numbers under `eval/` have metric cards: `python dashboards/build.py` shows them beside the "
    "paper's. `tags.role = 'sweep'` in the search box finds the ablations.",
}
MACHINE = ("checkpoint/", "data/", "memory/", "throughput/", "epoch")
"""First letters of metrics about the machine and the progress of training."""
ADVERSARY = "disc/"
EVALUATION = "eval/"
SCRIPTS = ("jobs", "ablations")
SECRETS = re.compile(r"password|secret|(token|key)\w*=", re.IGNORECASE)
"""Pattern of credentials in a value, such as the query of an address; names of flags are none."""
MOST_DIGEST = 36
"""Letters that MLflow takes of a data set's digest."""


@dataclass(frozen=True, kw_only=True)
class DataInput:
    """A data set that a run reads."""

    name: str
    digest: str
    source: str
    """Folder or s3 URI."""
    context: Literal["train", "eval"]
    num_rows: int


def shown_name(metric: str) -> str:
    """The name of a logged metric in MLflow: throughput/mfu becomes system/throughput_mfu."""
    section = "system/" if metric.startswith(MACHINE) else ""
    if metric.startswith(ADVERSARY):
        section = "training/"
    return section + metric.replace("/", "_") if section else metric


def shown_image(key: str) -> str:
    """The key of a logged picture in MLflow: samples becomes eval/samples."""
    return key if "/" in key else f"{EVALUATION}{key}"


def newest_picture(key: str) -> str:
    """The file that holds the last picture of a key, whatever its step."""
    return f"{key.replace('/', '-')}.png"


def command_line() -> str:
    """The command of this process as it can be typed again, from the repository; no secrets.

    Empty in a process that no script of ours started, such as a worker of Ray.
    """
    script = Path(sys.argv[0])
    if script.parent.name not in SCRIPTS:
        return ""
    words = map(shlex.quote, map(_without_secret, sys.argv[1:]))
    return " ".join([f"python {script.parent.name}/{script.name}", *words])


def _without_secret(word: str) -> str:
    """An argument, or a stand-in where it holds credentials (user:password@, token=...)."""
    flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    held = "@" in value and "://" in value or SECRETS.search(value)
    return f"{flag}{equals}***" if held else word


def describe_experiment(client: MlflowClient, experiment: Experiment) -> None:
    """Set the kind and the description of an experiment where it has none."""
    for name, value in EXPERIMENT_TAGS.items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def log_data(client: MlflowClient, run_id: str, inputs: Sequence[DataInput]) -> None:
    """Record the data sets of a run with digest and context; one that is there is not repeated."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not inputs:
        return
    client.log_inputs(
        run_id,
        datasets=[
            DatasetInput(
                Dataset(
                    name=each.name,
                    digest=each.digest[:MOST_DIGEST],
                    source_type="s3" if each.source.startswith("s3://") else "local",
                    source=json.dumps({"uri": each.source}),
                    profile=json.dumps({"num_rows": each.num_rows}),
                ),
                [InputTag("mlflow.data.context", each.context)],
            )
            for each in inputs
        ],
    )


def refresh_note(client: MlflowClient, run_id: str) -> None:
    """Write the description of a run from its tags and metrics, unless it was edited by hand."""
    run = client.get_run(run_id)
    tags = run.data.tags
    if NOTE_TAG in tags and _digest(tags[NOTE_TAG]) != tags.get(WRITTEN_TAG):
        return
    from mlflow.entities import RunTag

    written = _written(note(tags, run.data.metrics, run_id))
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in written.items()])


def first_note(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags with the description of a run that has these tags and no metrics yet."""
    return _written(note(tags, {}, ""))


def _written(text: str) -> dict[str, str]:
    return {NOTE_TAG: text, WRITTEN_TAG: _digest(text)}


def note(tags: Mapping[str, str], metrics: Mapping[str, float], run_id: str) -> str:
    """The description of a run in Markdown: command, headline numbers, samples, what to look at.

    The samples stand here too, because MLflow's chart of them begins with all params of the run.
    """
    parts = []
    if tags.get(COMMAND_TAG):
        parts.append(f"```\n{tags[COMMAND_TAG]}\n```")
    found = headline_numbers(metrics)
    if found:
        parts.append(", ".join(f"**{name}** {value:.4g}" for name, value in found.items()))
    if HAS_IMAGES in tags:
        place = f"path={newest_picture(SAMPLES)}&run_uuid={run_id}"
        parts.append(f"![newest samples](get-artifact?{place})")
    parts.append(
        "The trials are below this run: unfold it, select them, Compare."
        if tags.get("role") == "sweep"
        else "Look first at `eval/` with its image grid, and at `loss/` (Model metrics). A rising "
        "flow loss is not failure; a `latent/std` that falls to 0 is."
    )
    return "\n\n".join(parts)


def headline_numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that stand in a description, the first one first."""
    rows = [row for row in SPECS.values() if row.column == "runs" and row.better]
    names = [
        name
        for row in rows
        for name in sorted(metrics)
        if name.startswith(f"eval/{row.family}/") and spec_of(name) is row
    ]
    names += [*(row.logged_name for row in rows), "latent/std", "loss/total"]
    return {name: metrics[name] for name in names if name in metrics}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
