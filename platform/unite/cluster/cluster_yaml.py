"""Dry validation of a Ray cluster file: no network, no credentials, nothing is started.

Ray's own schema check lets through a wrong EC2 key, a node type whose minimum exceeds its
maximum, an image of another Ray version and a spot label on an on-demand node. All of these are
found here before `ray up` finds them one paid node at a time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unite.cluster.labels import ROLE

PLACEHOLDER = "EDIT-ME"
LOCK = "requirements.lock"
TOKEN = ".ray/auth_token"
LEAST_STOP_S = 60
"""Smallest RAY_JOB_STOP_WAIT_TIME_S: a save of the largest recipe takes less."""
AGENT = "spot-watch"
# Keys that Ray's AWS provider takes from node_config before it calls EC2.
RAY_NODE_KEYS = frozenset({"SubnetIds"})
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|(?i:secret_access_key|(?<!\.ray/)auth_token|password)\s*[=:]\s*\S"
)
RAY_PIN = re.compile(r"\bray(?:\[[^\]]*\])?==([0-9][\w.]*)")
IMAGE_TAG = re.compile(r"rayproject/ray(?:-ml)?:(\d+\.\d+\.\d+)(?:\.\w+)?-py(\d)(\d+)")


class ClusterFileError(ValueError):
    """A cluster file that `ray up` would refuse or, worse, accept; the message lists why."""


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A node type of the cluster: instance, market and number of nodes."""

    name: str
    instance: str
    market: str
    min_workers: int
    max_workers: int


@dataclass(frozen=True, kw_only=True)
class ClusterSummary:
    """A valid cluster file: its node types (head first) and the fields that must be filled in."""

    name: str
    node_types: tuple[NodeType, ...]
    placeholders: tuple[str, ...]


def check_cluster(path: str | Path) -> ClusterSummary:
    """Validate a cluster file; ClusterFileError lists every problem with its field and the fix."""
    file = Path(path)
    config = _load(file)
    problems = [*_ray_schema(config)]
    if not problems:
        problems = [
            *_sizes(config),
            *_markets(config),
            *_labels(config),
            *_guards(config),
            *_node_configs(config),
            *_versions(config, file.parent),
            *_secrets(file),
        ]
    if problems:
        raise ClusterFileError(f"{file}:\n" + "\n".join(f"  {line}" for line in problems))
    return ClusterSummary(
        name=config["cluster_name"],
        node_types=tuple(_node_types(config)),
        placeholders=(*_placeholders(config), *_tokens(config)),
    )


def _load(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ClusterFileError(f"cannot read {file}: {error}") from error
    except yaml.YAMLError as error:
        raise ClusterFileError(f"{file} is not YAML: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("available_node_types"), dict):
        raise ClusterFileError(f"{file} is no cluster file: it has no available_node_types")
    return config


def _ray_schema(config: dict[str, Any]) -> Iterator[str]:
    """Ray's checks: keys, types, the head node type, the sum of the minima."""
    # Ray has no public function for this; the pin on one Ray version is what makes it safe.
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    for key in ("cluster_name", "provider", "docker", "head_node_type"):
        if not config.get(key):
            yield f"{key} is missing"
            return
    try:
        validate_config(prepare_config(copy.deepcopy(config)))
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "top level"
        yield f"{where}: {error.message}"
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        yield f"Ray refuses it: {error}"


def _sizes(config: dict[str, Any]) -> Iterator[str]:
    limit = config.get("max_workers", 0)
    for name, node in config["available_node_types"].items():
        low, high = node.get("min_workers", 0), node.get("max_workers", 0)
        where = f"available_node_types.{name}"
        if low > high:
            yield f"{where}: min_workers = {low} exceeds max_workers = {high}; swap or raise it"
        if high > limit:
            yield f"{where}.max_workers = {high} exceeds the cluster's max_workers = {limit}"


def _markets(config: dict[str, Any]) -> Iterator[str]:
    """Problems of spot markets, which are written twice, for EC2 and as Ray's label."""
    spot = any(_market(node) == "spot" for node in config["available_node_types"].values())
    if spot and AGENT not in " ".join(config.get("worker_start_ray_commands", [])):
        yield (
            f"worker_start_ray_commands: start `unite {AGENT}`, as the shipped cluster.yaml does, "
            "or spot nodes go without notice"
        )
    for name, node in config["available_node_types"].items():
        where = f"available_node_types.{name}"
        market = _market(node)
        label = node.get("labels", {}).get("market", market)
        if label != market:
            yield (
                f"{where}.labels.market = {label} but node_config asks for {market}: set "
                "InstanceMarketOptions.MarketType and the label alike"
            )
        if market != "spot":
            continue
        if name == config["head_node_type"]:
            yield f"{where}: the head must not be a spot instance; its loss ends every job"
        spot_options = node["node_config"]["InstanceMarketOptions"].get("SpotOptions", {})
        if spot_options.get("SpotInstanceType", "one-time") != "one-time":
            yield (
                f"{where}: SpotInstanceType must be one-time; a persistent request starts nodes "
                "that Ray has terminated"
            )


def _labels(config: dict[str, Any]) -> Iterator[str]:
    """Problems of the labels by which work finds its nodes (`cluster/labels.py`)."""
    for name, node in config["available_node_types"].items():
        role = node.get("labels", {}).get(ROLE)
        wanted = ("head",) if name == config["head_node_type"] else ("train", "data")
        if role not in wanted:
            yield (
                f"available_node_types.{name}.labels.{ROLE} = {role} must be "
                f"{' or '.join(wanted)}: work finds its nodes by it"
            )


def _guards(config: dict[str, Any]) -> Iterator[str]:
    """Problems of who may reach the cluster, and of what a stopped job may still do."""
    options = _variables(config)
    if options.get("RAY_AUTH_MODE") != "token":
        yield "docker.run_options: add `--env RAY_AUTH_MODE=token`, or anybody who reaches it is in"
    elif not any(place.endswith(TOKEN) for place in config.get("file_mounts", {})):
        yield f"file_mounts: add /home/ray/{TOKEN}: ~/{TOKEN}, or no node has the token"
    wait = options.get("RAY_JOB_STOP_WAIT_TIME_S", "")
    if not wait.isdigit() or int(wait) < LEAST_STOP_S:
        yield (
            f"docker.run_options: RAY_JOB_STOP_WAIT_TIME_S = {wait or 'unset'} must be at least "
            f"{LEAST_STOP_S}: a stopped job is killed before it has saved"
        )
    commands = " ".join(config.get("head_start_ray_commands", []))
    if "--dashboard-host=127.0.0.1" not in commands:
        yield (
            "head_start_ray_commands: give --dashboard-host=127.0.0.1; `ray dashboard` "
            "tunnels to it"
        )
    if config["provider"].get("type") != "aws":
        return
    for name, node in config["available_node_types"].items():
        if not node["node_config"].get("SecurityGroupIds"):
            yield (
                f"available_node_types.{name}.node_config.SecurityGroupIds is missing: Ray's own "
                "group opens SSH to the world (docs/deploy/aws_network.sh makes one that does not)"
            )


def _variables(config: dict[str, Any]) -> dict[str, str]:
    """Environment that the containers are started with."""
    words = " ".join(config["docker"].get("run_options", [])).split()
    given = [b for a, b in zip(words, words[1:], strict=False) if a in ("--env", "-e")]
    parts = (each.partition("=") for each in given)
    return {name: value for name, _, value in parts}


def _market(node: dict[str, Any]) -> str:
    options = node["node_config"].get("InstanceMarketOptions") or {}
    return options.get("MarketType", "on-demand")


def _node_configs(config: dict[str, Any]) -> Iterator[str]:
    """node_config against EC2's own API description, which ships with botocore."""
    if config["provider"].get("type") != "aws":
        return
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    request = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in config["available_node_types"].items():
        where = f"available_node_types.{name}.node_config"
        wanted = {k: v for k, v in node["node_config"].items() if k not in RAY_NODE_KEYS}
        if "InstanceType" not in wanted:
            yield f"{where}.InstanceType is missing"
        report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **wanted}, request)
        if report.has_errors():
            yield from (f"{where}: {line}" for line in report.generate_report().splitlines())
        else:
            yield from _enumerations(where, wanted, request)


def _enumerations(where: str, value: Any, shape: Any) -> Iterator[str]:
    """Values outside an enumeration of the API (botocore's validator leaves these to EC2)."""
    if shape.type_name == "structure":
        for key, item in value.items():
            yield from _enumerations(f"{where}.{key}", item, shape.members[key])
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from _enumerations(f"{where}[{index}]", item, shape.member)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        known = ", ".join(shape.enum) if len(shape.enum) <= 12 else f"{len(shape.enum)} known names"
        yield f"{where} = {value!r} is none of EC2's values ({known}): a typo, or update boto3"


def _versions(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Problems of Ray's versions: image, set-up commands, lock and this environment must agree."""
    import ray

    here = ray.__version__
    for key in ("image", "head_image", "worker_image"):
        image = config["docker"].get(key)
        if image:
            yield from _image(f"docker.{key}", image, here)
    commands = [c for key, value in config.items() if key.endswith("setup_commands") for c in value]
    for pin in RAY_PIN.findall("\n".join(commands)):
        if pin != here:
            yield f"setup_commands install ray=={pin} but this environment has {here}"
    for remote, local in config.get("file_mounts", {}).items():
        source = folder / Path(local).expanduser()
        lock = source if source.is_file() else source / LOCK
        if not source.exists() and not remote.endswith(TOKEN):
            yield f"file_mounts.{remote}: {source} does not exist"
        elif lock.is_file() and lock.name == LOCK and here not in RAY_PIN.findall(lock.read_text()):
            yield f"file_mounts.{remote}: {lock} does not pin ray=={here}; run `make lock`"


def _image(where: str, image: str, here: str) -> Iterator[str]:
    tag = IMAGE_TAG.match(image)
    if not tag:
        yield (
            f"{where} = {image} has no tag that names Ray and Python; use for example "
            f"rayproject/ray:{here}-py311-gpu"
        )
        return
    if tag[1] != here:
        yield f"{where} = {image} brings Ray {tag[1]} but this environment has {here}"
    if (int(tag[2]), int(tag[3])) < (3, 11):
        yield f"{where} = {image} brings Python {tag[2]}.{tag[3]}; unite needs 3.11 or newer"


def _secrets(file: Path) -> Iterator[str]:
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if SECRET.search(line):
            yield f"line {number} looks like a secret; use an instance profile instead"


def _node_types(config: dict[str, Any]) -> Iterator[NodeType]:
    head = config["head_node_type"]
    names = sorted(config["available_node_types"], key=lambda name: name != head)
    for name in names:
        node = config["available_node_types"][name]
        yield NodeType(
            name=f"{name} (head)" if name == head else name,
            instance=node["node_config"].get("InstanceType", "?"),
            market=_market(node),
            min_workers=node.get("min_workers", 0),
            max_workers=node.get("max_workers", 0),
        )


def _tokens(config: dict[str, Any]) -> Iterator[str]:
    """The token's file where it is not made yet."""
    for remote, local in config.get("file_mounts", {}).items():
        if remote.endswith(TOKEN) and not Path(local).expanduser().is_file():
            yield f"{local} does not exist yet: ray get-auth-token --generate"


def _placeholders(value: Any, where: str = "") -> Iterator[str]:
    """Dotted places whose value still holds the placeholder."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _placeholders(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _placeholders(item, where)
    elif PLACEHOLDER in str(value):
        yield f"{where}: {value}"
