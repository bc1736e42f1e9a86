"""Tags of a run, for searches and comparisons; none holds a secret."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Mapping
from pathlib import Path

from unite.entry import PACKAGE, code_digest

REPOSITORY = PACKAGE.parents[1]
GIT_TIMEOUT_S = 10


def run_tags(
    recipe: str,
    manifest_digest: str,
    cluster: Mapping[str, object],
    *,
    run_uri: str = "",
    source: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Tags for `start_run`.

    Args:
        recipe: name of the recipe.
        manifest_digest: digest of the training data's manifest.
        cluster: facts of the cluster by name, such as num_workers; become cluster_NAME.
        run_uri: the run's folder or s3 URI, as the user gave the storage.
        source: the script's path in the repository, such as jobs/train.py.
        extra: further tags (axis, value, seed and figure of a trial).
    """
    commit, dirty = _git_state(REPOSITORY)
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": source,
        "mlflow.source.type": "JOB" if source else "",
        "mlflow.source.git.commit": commit,
        "recipe": recipe,
        "git_commit": commit,
        "git_dirty": dirty,
        "code_digest": code_digest(PACKAGE)[:16],
        "data_digest": manifest_digest,
        "run_uri": run_uri,
        **{f"cluster_{name}": str(value) for name, value in cluster.items()},
        **(extra or {}),
    }
    return {name: value for name, value in tags.items() if value}


def run_params(fields: Mapping[str, object]) -> dict[str, str]:
    """The flattened config of a run as MLflow's params.

    The run's name stays out: it differs between any two runs, so that every comparison would begin
    with it.
    """
    return {name: str(value) for name, value in fields.items() if name != "name"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


def _git_state(repository: Path) -> tuple[str, str]:
    """Commit and "true"/"false" for uncommitted changes; ("unknown", "unknown") without git."""
    if not (repository / ".git").exists():
        return "unknown", "unknown"
    try:
        commit = _git(repository, "rev-parse", "HEAD")
        changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown", "unknown"
    return commit, str(bool(changes)).lower()


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    return run.stdout.strip()
