"""cluster.yaml is valid offline, and the faults that Ray's own check lets through are found."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unite.cluster.cluster_yaml import ClusterFileError, check_cluster
from unite.cluster.labels import MARKET, MARKETS, ROLE, ROLES, WISHES


@pytest.fixture
def shipped(root) -> dict:
    return yaml.safe_load((root / "cluster.yaml").read_text())


@pytest.fixture
def check(root, tmp_path):
    (tmp_path / "requirements.lock").write_text((root / "requirements.lock").read_text())

    def run(config: dict):
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(config))
        return check_cluster(file)

    return run


def test_the_shipped_file_is_valid(root):
    summary = check_cluster(root / "cluster.yaml")
    types = {node.name: node for node in summary.node_types}
    assert summary.node_types[0].name == "head_cpu (head)"
    assert types["gpu_spot"].market == types["cpu_data"].market == "spot"
    assert types["gpu_ondemand"].market == types["head_cpu (head)"].market == "on-demand"


def test_the_shipped_file_keeps_work_off_the_head(shipped):
    assert shipped["available_node_types"]["head_cpu"]["resources"] == {"CPU": 0}


def test_its_labels_are_those_that_work_asks_for(root, shipped):
    """A wish that no node type can grant would be a dead letter; so would an unknown label."""
    kuberay = yaml.safe_load((root / "docs/deploy/kuberay/raycluster.yaml").read_text())
    aws = [node["labels"] for node in shipped["available_node_types"].values()]
    for groups in (aws, [group["labels"] for group in kuberay["spec"]["workerGroupSpecs"]]):
        for wish in WISHES.values():
            assert any(wish.items() <= labels.items() for labels in groups), wish
        assert {labels[ROLE] for labels in groups} <= set(ROLES)
        assert {labels[MARKET] for labels in groups} <= set(MARKETS)


def test_every_worker_starts_the_agent_of_spot_nodes_with_flags_that_it_has(root, shipped):
    (command,) = [line for line in shipped["worker_start_ray_commands"] if "spot-watch" in line]
    mounted = next(to for to, source in shipped["file_mounts"].items() if source == ".")
    command = command.replace(mounted, str(root)).replace("$RAY_HEAD_IP", "127.0.0.1")
    asked = command.replace("nohup flock --nonblock /tmp/spot-watch.lock", "")
    asked = asked.partition("<")[0].replace("python", sys.executable, 1) + " --every-s 0"
    done = subprocess.run(asked, shell=True, capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and "must be above 0" in done.stderr, "it came to look at the cloud"


def test_the_token_comes_as_a_file_and_is_asked_for_where_there_is_none(
    root, shipped, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shipped["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    places = "\n".join(check_cluster(root / "cluster.yaml").placeholders)
    assert "~/.ray/auth_token does not exist yet: ray get-auth-token --generate" in places
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert "auth_token" not in "\n".join(check_cluster(root / "cluster.yaml").placeholders)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0", "203.0.113.7", ""])
def test_the_network_group_is_not_made_for_the_whole_world(root, tmp_path, cidr):
    aws = tmp_path / "aws"
    aws.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    aws.chmod(0o755)
    script = str(root / "docs/deploy/aws_network.sh")
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", script, *filter(None, [cidr])], env=path, capture_output=True)
    assert done.returncode == 2 and not (tmp_path / "called").exists()


def test_the_network_group_lets_ssh_in_from_the_stated_place_alone(root, tmp_path):
    (tmp_path / "aws").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls; echo sg-1\n')
    (tmp_path / "aws").chmod(0o755)
    script = str(root / "docs/deploy/aws_network.sh")
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", script, "203.0.113.7/32", "vpc-1"], env=path, capture_output=True)
    assert done.stdout == b"sg-1\n"
    rules = [line for line in (tmp_path / "calls").read_text().splitlines() if "authorize" in line]
    assert len(rules) == 2
    assert "--protocol tcp --port 22 --cidr 203.0.113.7/32" in rules[0]
    assert "--protocol all --source-group sg-1" in rules[1] and "cidr" not in rules[1]


def test_what_the_user_must_fill_in_is_listed(root):
    places = "\n".join(check_cluster(root / "cluster.yaml").placeholders)
    assert "gpu_ondemand.node_config.SecurityGroupIds: sg-EDIT-ME" in places
    assert "UNITE_STORAGE" in places
    assert "MLFLOW_TRACKING_URI" in places
    assert "gpu_spot.node_config.IamInstanceProfile.Name" in places


SPOT = ("available_node_types", "gpu_spot")
HEAD = ("available_node_types", "head_cpu")
FAULTS = [
    (("bogus",), 1, "bogus"),
    (("cluster_name",), None, "cluster_name is missing"),
    (("docker",), None, "docker is missing"),
    (("head_node_type",), "no_such", "no_such"),
    ((*SPOT, "bogus"), 1, "bogus"),
    ((*SPOT, "min_workers"), "two", "two"),
    ((*SPOT, "min_workers"), 5, "min_workers = 5 exceeds max_workers = 4"),
    ((*SPOT, "max_workers"), 99, "99 exceeds the cluster's max_workers = 12"),
    (("max_workers",), 1, "exceeds the cluster's max_workers = 1"),
    ((*SPOT, "node_config", "InstanceTyp"), "x", "Unknown parameter.*InstanceTyp"),
    ((*SPOT, "node_config", "InstanceType"), "g5.13xlarge", "g5.13xlarge.*typo"),
    ((*SPOT, "node_config", "InstanceType"), None, "InstanceType is missing"),
    ((*SPOT, "node_config", "InstanceMarketOptions"), {"MarketType": "spt"}, "'spt'"),
    ((*SPOT, "node_config", "InstanceMarketOptions"), {}, "labels.market = spot but"),
    (
        (*SPOT, "node_config", "InstanceMarketOptions", "SpotOptions", "SpotInstanceType"),
        "persistent",
        "must be one-time",
    ),
    ((*HEAD, "labels", "market"), "spot", "head_cpu.labels.market = spot but"),
    (
        (*HEAD, "node_config", "InstanceMarketOptions"),
        {"MarketType": "spot"},
        "head must not be a spot instance",
    ),
    (("docker", "image"), "rayproject/ray:latest", "no tag that names Ray"),
    (("docker", "image"), "rayproject/ray:2.9.3-py311-gpu", "brings Ray 2.9.3"),
    (("docker", "image"), "rayproject/ray:2.60.0-py310-gpu", "brings Python 3.10"),
    (("setup_commands",), ["pip install 'ray[train]==2.9.3'"], "install ray==2.9.3"),
    (("file_mounts", "/home/ray/x"), "no/such/file", "no/such/file does not exist"),
    (("file_mounts",), {}, "file_mounts: add /home/ray/.ray/auth_token"),
    (("docker", "run_options"), ["--env RAY_JOB_STOP_WAIT_TIME_S=120"], "RAY_AUTH_MODE=token"),
    (
        ("docker", "run_options"),
        ["--env RAY_AUTH_MODE=token", "-e RAY_JOB_STOP_WAIT_TIME_S=10"],
        "RAY_JOB_STOP_WAIT_TIME_S = 10 must be at least 60",
    ),
    (("docker", "run_options"), ["--env RAY_AUTH_MODE=token"], "WAIT_TIME_S = unset"),
    (("head_start_ray_commands",), ["ray start --head --dashboard-host=0.0.0.0"], "tunnels to it"),
    (("worker_start_ray_commands",), ["ray start"], "start `unite spot-watch`"),
    ((*SPOT, "node_config", "SecurityGroupIds"), None, "gpu_spot.*opens SSH to the world"),
    ((*SPOT, "labels", "unite-role"), None, "labels.unite-role = None must be train or data"),
    ((*HEAD, "labels", "unite-role"), "data", "labels.unite-role = data must be head"),
    (("head_setup_commands",), ["export AWS_SECRET_ACCESS_KEY=abc"], "looks like a secret"),
]


@pytest.mark.parametrize(("path", "value", "words"), FAULTS, ids=[f[2] for f in FAULTS])
def test_faults_are_named(shipped, check, path, value, words):
    config = copy.deepcopy(shipped)  # also resolves the file's shared anchors into copies
    config = yaml.safe_load(yaml.dump(config, Dumper=NoAliases))
    place = config
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ClusterFileError, match=words):
        check(config)


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def test_every_problem_is_listed_at_once(shipped, check):
    shipped["docker"]["image"] = "rayproject/ray:2.9.3-py311-gpu"
    shipped["available_node_types"]["gpu_spot"]["min_workers"] = 5
    with pytest.raises(ClusterFileError, match=r"(?s)min_workers = 5.*2\.9\.3"):
        check(shipped)


def test_a_lock_of_another_ray_is_found(shipped, tmp_path):
    (tmp_path / "requirements.lock").write_text("ray==2.9.3\n")
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(shipped))
    with pytest.raises(ClusterFileError, match="does not pin ray==.*make lock"):
        check_cluster(tmp_path / "cluster.yaml")


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "is not YAML"), ("a: 1", "is no cluster file")]
)
def test_other_files_are_refused(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ClusterFileError, match=words):
        check_cluster(tmp_path / "c.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(ClusterFileError, match="cannot read .*no-such.yaml"):
        check_cluster(Path("no-such.yaml"))
