"""A run, an evaluation, an export and a sweep of an earlier version are still read."""

import csv
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
RUN = "smoke-0a8f1b9f5ea2"
TINY = """--model.encoder.width 8 --model.encoder.depth 1 --model.encoder.num-heads 1
    --model.decoder.width 8 --model.decoder.depth 1 --model.decoder.num-heads 1
    --model.decoder.mlp-width 16 --model.decoder.stem-width 8
    --model.encoder.in-context-start 0 --model.encoder.in-context-tokens 1 --training.epochs 0.25
    --evaluation.num-images 8 --evaluation.every-images 192 --checkpoint.every-images 384""".split()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked files, in another place than where they were made."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ROOT / "tests/artefacts/2026-11-27.tar.xz") as files:
        files.extractall(folder, filter="data")
    shutil.copytree(folder / "runs/data", folder / "sweep/data", dirs_exist_ok=True)
    return folder


def command(folder: Path, *words: str, ray: str = "local") -> str:
    """Output of a script of the repository, run in the folder; `ray` is a cluster's address."""
    places = {"UNITE_STORAGE": "", "MLFLOW_TRACKING_URI": "", "RAY_ADDRESS": ray}
    paths = os.pathsep.join([str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, ROOT / words[0], *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, **places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_finished_run_is_known_by_the_command_that_made_it(earlier: Path) -> None:
    told = command(earlier, "jobs/train.py", "smoke", "--storage", "runs", *TINY)
    assert f"{RUN} (finished; nothing to do)" in told
    assert "6.5 dB" in told


def test_chunks_of_an_evaluation_are_not_measured_again(earlier: Path) -> None:
    places = earlier / "runs" / RUN / "evaluations" / "1e15e78b2f1fce92"
    before = sorted(each.name for each in places.glob("entropy-*"))
    chunk = next(places.glob("entropy-*/chunks/*.npz"))
    written = chunk.stat().st_mtime_ns
    words = ["--run", RUN, "--storage", "runs", "--suite", "entropy", "--no-track"]
    told = command(earlier, "jobs/evaluate.py", *words)
    assert sorted(each.name for each in places.glob("entropy-*")) == before
    assert chunk.stat().st_mtime_ns == written
    assert "0.006524" in told and "0.0005141" in told


def test_a_run_and_its_export_load_as_the_same_model(earlier: Path) -> None:
    import unite

    run, export = unite.load(str(earlier / "runs" / RUN)), unite.load(str(earlier / "export"))
    weights = export.state_dict()
    assert run.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in run.state_dict().items())
    _, images = unite.sample(run, torch.tensor([0, 1]), seeds_B=torch.tensor([0, 1]))
    assert images.shape[0] == 2 and bool(images.isfinite().all())


@pytest.mark.ray
def test_a_sweep_and_its_report_still_have_every_number(earlier: Path, ray_cluster) -> None:
    address = ray_cluster.get_runtime_context().gcs_address
    words = ["ablations/sweep_noise.py", "--scale", "smoke", "--storage", "sweep"]
    told = command(earlier, *words, ray=address)
    # Measured again: the version of the noise is part of an evaluation since. It was 22.72.
    assert re.search(r"FD-pixels is 2\d\.\d+ \(n = 1\) at sigma = 0\.7", told)
    command(earlier, "dashboards/build.py", "--storage", "sweep", "--out", "report.html")
    page = (earlier / "report.html").read_text()
    for row in csv.DictReader((earlier / "sweep/sweeps/sweep-noise-smoke/table6_top.csv").open()):
        assert Path(row["run"]).name in page
        assert f"{float(row['eval/generation/fd-pixels']):.4g}" in page
