"""cluster.yaml is valid offline, and the faults that Ray's own check lets through are found."""

import copy
from pathlib import Path

import pytest
import yaml

from unite.cluster.cluster_yaml import ClusterFileError, check_cluster


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


def test_what_the_user_must_fill_in_is_listed(root):
    places = "\n".join(check_cluster(root / "cluster.yaml").placeholders)
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
