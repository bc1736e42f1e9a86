"""Versions of a model in MLflow's registry, and the champion among them.

A version is an export folder, the package's source and the name of the module that loads it: MLflow
imports that module, and unpickles nothing. The metric cards that decide
between versions are kept as tags, so that no folder has to be at hand to compare them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unite.storage import Store
from unite.tracking.runs import open_experiment
from unite.tracking.server import (
    VARIABLE,
    RunHandle,
    TrackingError,
    artifact_location,
    connect,
    naming,
    reason_of,
)
from unite.tracking.tags import PACKAGE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

logger = logging.getLogger(__name__)

CHAMPION = "champion"
REQUIREMENTS = ("numpy", "pillow", "pyarrow", "safetensors", "simplejpeg", "torch")
"""Packages that the loader imports; their versions are those that are installed here."""
PARAM_TYPES = {float: "double", int: "long", str: "string"}


@dataclass(frozen=True, kw_only=True)
class Package:
    """Content of a version."""

    folder: Store
    """Folder of the export."""
    loader: str
    """Module whose `_load_pyfunc` reads it."""
    params: Mapping[str, float | int | str]
    """Parameters of `predict` and their defaults."""
    inputs: Mapping[str, str]
    """Columns that `predict` takes, one or some of them at a time -> MLflow's type."""
    outputs: Mapping[str, str] | tuple[int, ...]
    """Columns that it returns with their types, or the shape of each uint8 array."""
    tags: Mapping[str, str]
    """Tags for searches and comparisons."""
    description: str
    """Text that is shown beside the version."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version of a model."""

    name: str
    number: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def register(
    uri: str, name: str, package: Package, *, experiment: str, storage: str, run_id: str = ""
) -> Version:
    """Make the next version of `name`; TrackingError when MLflow does not take it.

    `run_id` is the training run, when this MLflow has it: the version then links to it.
    """
    with naming(f"MLflow at {uri} did not register it"):
        client = connect(uri)
        if not run_id:
            where = open_experiment(
                client, experiment, artifact_location(uri, storage)
            ).experiment_id
        else:
            where = client.get_run(run_id).info.experiment_id
        model_id = _upload(client, where, name, package, run_id or None)
        return _version(client, name, package, model_id, run_id or None)


def champion(uri: str, name: str) -> Version | None:
    """The version that has the alias; None when there is none."""
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        number = client.get_registered_model(name).aliases.get(CHAMPION)
        found = None if number is None else client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise TrackingError(f"cannot read {name} at {uri}: {reason_of(error)}") from error
    return found and Version(name=name, number=str(found.version), tags=dict(found.tags))


def crown(uri: str, version: Version) -> None:
    """Move the alias to a version; TrackingError when MLflow does not."""
    with naming(f"{version} could not be made {CHAMPION}"):
        connect(uri).set_registered_model_alias(version.name, CHAMPION, version.number)


def source_run(handle: RunHandle | None, uri: str) -> str:
    """The id of the training run where it is known to the MLflow at `uri`, else empty."""
    if handle is None or handle.uri != uri:
        return ""
    try:
        connect(uri).get_run(handle.run_id)
    except Exception as error:  # the run was deleted, or the record is another MLflow's
        logger.warning("the version links to no training run: %s", reason_of(error))
        return ""
    return handle.run_id


def _upload(
    client: MlflowClient, experiment_id: str, name: str, package: Package, run_id: str | None
) -> str:
    """Store the model's files; returns the model's id."""
    import mlflow.pyfunc
    from mlflow.models import Model

    logged = client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, model_type="pyfunc"
    )
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # It asks for an example of the input, which it would run the model on to guess types.
            warnings.filterwarnings("ignore", message="(?s).*input example")
            mlflow.pyfunc.save_model(
                path=f"{folder}/model",
                loader_module=package.loader,
                data_path=_local(package.folder, Path(folder)),
                code_paths=[str(PACKAGE)],
                signature=_signature(package),
                pip_requirements=requirements(),
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    run_id=run_id,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                ),
            )
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    return logged.model_id


def _version(
    client: MlflowClient, name: str, package: Package, model_id: str, run_id: str | None
) -> Version:
    from mlflow.exceptions import MlflowException

    # It says on every call that it waits for up to 300 s, and returns at once.
    logging.getLogger("mlflow.store.model_registry").setLevel(logging.WARNING)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _named_for_all(client.tracking_uri):
        made = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            tags=dict(package.tags),
            description=package.description,
            model_id=model_id,
        )
    return Version(name=name, number=str(made.version), tags=package.tags)


@contextmanager
def _named_for_all(uri: str) -> Iterator[None]:
    """Context in which `uri` is the whole process's MLflow; the environment returns after it.

    A database's registry looks for the model there, whatever client it was called through.
    """
    import mlflow

    before = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ[VARIABLE] = before


def _local(store: Store, folder: Path) -> str:
    """The export as a local folder; from S3 it is fetched below `folder`."""
    if store.is_local:
        return store.path()
    fetched = Store.open(folder / store.name)
    for name in store.list(recursive=True):
        if store.is_file(name):
            fetched.write(name, store.read(name))
    return fetched.path()


def _signature(package: Package) -> ModelSignature:
    """Optional columns go in; columns or arrays come out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    columns: list[Any] = [
        ColSpec(kind, name, required=False) for name, kind in package.inputs.items()
    ]
    params = [
        ParamSpec(name, PARAM_TYPES[type(value)], value) for name, value in package.params.items()
    ]
    shape = package.outputs
    outputs: list[Any] = (
        [TensorSpec(np.dtype(np.uint8), (-1, *shape))]
        if isinstance(shape, tuple)
        else [ColSpec(kind, name) for name, kind in shape.items()]
    )
    return ModelSignature(
        inputs=Schema(columns), outputs=Schema(outputs), params=ParamSchema(params)
    )


def requirements() -> list[str]:
    """The loader's dependencies, pinned to what is installed, without a build's local label."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]
