"""Files of docs/deploy: fields that programs know, locked versions, no secrets, no open doors."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
FIELDS = yaml.safe_load((ROOT / "tests" / "deploy_fields.yaml").read_text())
MANIFESTS = sorted((DEPLOY / "kuberay").glob("*.yaml"))
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|(?i:password|secret|token)\w*\s*[:=]\s*[\"']?[A-Za-z0-9/+]{12,}"
)


def unknown(found: Any, known: Any, place: str = "") -> list[str]:
    """Places in `found` that the table of known fields lacks, or whose value it does not list."""
    if known is None:
        return []
    if isinstance(found, list):
        return [fault for each in found for fault in unknown(each, known[0], f"{place}[]")]
    if isinstance(known, list):
        return [] if found in known else [f"{place}: {found!r} is none of {known}"]
    if not isinstance(found, dict):
        return [f"{place}: {found!r} where fields belong"]
    faults = []
    for name, value in found.items():
        if name not in known and "*" not in known:
            faults.append(f"{place}.{name}")
        else:
            faults += unknown(value, known.get(name, known.get("*")), f"{place}.{name}")
    return faults


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_use_fields_that_their_kinds_have(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] != "Secret":
            assert unknown(document["spec"], FIELDS[document["kind"]], document["kind"]) == []


def test_a_job_on_a_standing_cluster_has_what_kuberay_takes() -> None:
    """KubeRay refuses one with a backoffLimit, and one that is suspended."""
    job = yaml.safe_load((DEPLOY / "kuberay/rayjob-train.yaml").read_text())["spec"]
    assert job["clusterSelector"] and not job.get("backoffLimit") and not job.get("suspend")


def test_the_scheduler_reaches_what_the_pods_of_the_cluster_reach() -> None:
    """The storage by their service account, MLflow by their account."""
    cron = yaml.safe_load((DEPLOY / "kuberay/cronjob-evals.yaml").read_text())["spec"]
    cluster = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())["spec"]

    def reached(template: dict[str, Any]) -> Any:
        variables = template["spec"]["containers"][0]["env"]
        mlflow = [each for each in variables if each["name"].startswith("MLFLOW_")]
        return template["spec"]["serviceAccountName"], mlflow

    found = reached(cron["jobTemplate"]["spec"]["template"])
    assert found == reached(cluster["headGroupSpec"]["template"])
    assert len(found[1]) == 3


def test_an_unknown_field_or_value_is_found() -> None:
    known = FIELDS["RayCluster"]
    assert unknown({"rayversion": "2"}, known, "RayCluster") == ["RayCluster.rayversion"]
    wrong = {"headGroupSpec": {"serviceType": "Public"}}
    assert "'Public' is none of" in unknown(wrong, known, "RayCluster")[0]
    deep = {"workerGroupSpecs": [{"template": {"spec": {"containers": [{"immage": "x"}]}}}]}
    assert unknown(deep, known)[0].endswith(".containers[].immage")


def test_versions_are_those_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    ray = re.search(r"^ray(?:\[[^\]]*\])?==(\S+)", lock, re.MULTILINE)
    mlflow = re.search(r"^mlflow==(\d+\.\d+)", lock, re.MULTILINE)
    assert ray and mlflow
    assert f"FROM rayproject/ray:{ray[1]}-py311-gpu" in (DEPLOY / "Dockerfile").read_text()
    assert f'rayVersion: "{ray[1]}"' in (DEPLOY / "kuberay/raycluster.yaml").read_text()
    assert f"mlflow[auth]=={mlflow[1]}." in (DEPLOY / "mlflow.Dockerfile").read_text()


def test_the_image_copies_what_exists_and_installs_by_hash() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split()), source
    assert "--require-hashes" in text


def test_no_file_holds_a_secret_or_opens_a_port_to_the_world() -> None:
    for path in [path for path in DEPLOY.rglob("*") if path.is_file()]:
        assert not SECRET.search(path.read_text()), path.name
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    cluster = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())["spec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_compose_file_is_one_that_docker_takes() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    names = ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET")
    values = dict.fromkeys((*names, "S3_ACCESS_KEY", "S3_SECRET_KEY"), "x")
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(
        command,
        env=values | {"PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
    )
    if "is not a docker command" in done.stderr or "unknown shorthand flag" in done.stderr:
        pytest.skip("docker has no compose plugin")
    assert done.returncode == 0, done.stderr


KEYS = {"S3_ACCESS_KEY": "unite", "S3_SECRET_KEY": "not/a+real=key"}


def started_s3(settings: dict[str, str], path: str) -> subprocess.CompletedProcess[str]:
    """What the script for a bare machine does with nothing but the system's programs and `path`."""
    return subprocess.run(
        ["sh", str(DEPLOY / "s3_server.sh")],
        env=settings | {"PATH": f"{path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_the_s3_server_of_a_bare_machine_asks_for_its_keys_on_this_machine_alone(
    tmp_path: Path,
) -> None:
    weed = tmp_path / "bin" / "weed"
    weed.parent.mkdir()
    weed.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    weed.chmod(0o755)
    data = tmp_path / "data"
    done = started_s3({**KEYS, "S3_DATA": str(data)}, str(weed.parent))
    assert done.returncode == 0, done.stderr
    asked = done.stdout.split()
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={data}/s3.json"} <= {*asked}
    assert KEYS["S3_SECRET_KEY"] not in done.stdout, "every user of the machine sees arguments"
    file = data / "s3.json"
    (who,) = json.loads(file.read_text())["identities"]
    assert who["credentials"] == [{"accessKey": "unite", "secretKey": "not/a+real=key"}]
    assert file.stat().st_mode & 0o077 == 0 and data.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "weed is not on the PATH"),
        ({"S3_SECRET_KEY": 'x", "actions'}, "letters, digits"),
        ({"S3_SECRET_KEY": "short"}, "shorter than 12"),
        ({"S3_SECRET_KEY": ""}, "at least 12 characters"),
    ],
)
def test_an_s3_server_that_cannot_start_says_why(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    done = started_s3({**KEYS, "S3_DATA": str(tmp_path / "data"), **changed}, str(tmp_path))
    assert done.returncode != 0 and message in done.stderr
    assert not (tmp_path / "data").exists()
