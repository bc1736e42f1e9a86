"""Tags tell what was run, by whom and on what data."""

from __future__ import annotations

import getpass
import subprocess

from unite.tracking import run_tags, tags


def test_tags_name_recipe_data_cluster_user_and_source(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    found = run_tags(
        "digits",
        "sha256:0",
        {"num_workers": 2, "device": "cpu"},
        run_uri="s3://bucket/runs/digits-1",
        source="jobs/train.py",
        extra={"axis": "flow.steps"},
    )
    assert found["recipe"] == "digits"
    assert found["data_digest"] == "sha256:0"
    assert found["cluster_num_workers"] == "2"
    assert found["cluster_device"] == "cpu"
    assert found["mlflow.user"] == "ada"
    assert found["mlflow.source.name"] == "jobs/train.py"
    assert found["run_uri"] == "s3://bucket/runs/digits-1"
    assert found["axis"] == "flow.steps"
    assert all(isinstance(value, str) and value for value in found.values())


def test_the_commit_and_uncommitted_changes(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    git("init", "--quiet")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    monkeypatch.setattr(tags, "REPOSITORY", tmp_path)
    found = run_tags("digits", "", {})
    assert len(found["git_commit"]) == 40
    assert found["mlflow.source.git.commit"] == found["git_commit"]
    assert found["git_dirty"] == "false"
    (tmp_path / "file").write_text("2")
    assert run_tags("digits", "", {})["git_dirty"] == "true"


def test_the_code_digest_changes_with_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(tags, "PACKAGE", tmp_path)
    digests = []
    for text in ("1", "2", "1"):
        (tmp_path / "module.py").write_text(text)
        digests.append(run_tags("digits", "", {})["code_digest"])
    assert digests[0] == digests[2] != digests[1]


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(tags, "REPOSITORY", tmp_path)
    assert run_tags("digits", "", {})["git_commit"] == "unknown"


def test_a_user_without_a_name(monkeypatch):
    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert run_tags("digits", "", {})["mlflow.user"] == "unknown"
