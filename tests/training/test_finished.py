"""A finished run, typed again, says so at once."""

import dataclasses
import shlex
import shutil

import pytest

from typed import HEAVY, typed
from unite.config.flags import parse
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import from_dict, replace
from unite.sampling.generate_job import GenerateArguments
from unite.storage import Store
from unite.training.finished import (
    FILE,
    Report,
    find_finished,
    finished_lines,
    keep_report,
    report_lines,
    stopped_line,
)
from unite.training.runs import open_run

FIGURES = {"quality": 21.0, "latent_std": 0.4, "grid": "grid.png", "curves": "curves.png"}
HOW = {"resume": "auto", "allow_changes": False}


@pytest.fixture
def run(untrained_run, tmp_path):
    """A run whose newest checkpoint has 256 images, and its report."""
    folder = untrained_run(tmp_path / "my runs", name="mine", images=(128, 256))
    run = open_run(from_dict(RunConfig, folder.read_json("config.json")))
    keep_report(run, Report(images=256, **FIGURES))
    return run


def test_a_finished_run_is_found_with_its_report(run):
    found, report = find_finished(run.config, **HOW)
    assert found.folder == run.folder and report == Report(images=256, **FIGURES)
    assert find_finished(run.config, resume=run.folder.uri, allow_changes=False)
    assert find_finished(run.config, resume="never", allow_changes=False) is None


def test_a_run_that_was_moved_names_where_it_is_now(run, tmp_path):
    told = {
        "grid": f"{run.folder}/samples.png",
        "curves": f"{run.folder}/curves.png",
        "browse": f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/my runs/mlflow.db'",
    }
    keep_report(run, Report(images=256, quality=21.0, latent_std=0.4, **told))
    (tmp_path / "my runs" / "mlflow.db").touch()
    (tmp_path / "my runs").rename(tmp_path / "moved")
    config = replace(run.config, {"storage": str(tmp_path / "moved")})
    found = find_finished(config, **HOW)
    assert found is not None
    assert found[1].grid == f"{tmp_path}/moved/mine/samples.png"
    assert found[1].browse.endswith(f"'sqlite:///{tmp_path}/moved/mlflow.db'")
    (tmp_path / "alone").mkdir()
    shutil.copytree(tmp_path / "moved" / "mine", tmp_path / "alone" / "renamed")
    alone = {"storage": str(tmp_path / "alone"), "name": "renamed"}
    found = find_finished(replace(run.config, alone), **HOW)
    assert found is not None
    assert found[1].grid == f"{tmp_path}/alone/renamed/samples.png"
    assert found[1].browse == "", "it was copied without MLflow's file"


def test_other_runs_are_not_finished(run):
    longer = replace(run.config, {"training.epochs": 2.0})
    assert find_finished(longer, resume="auto", allow_changes=True) is None
    with pytest.raises(ValueError, match="was started with another config"):
        find_finished(longer, **HOW)
    keep_report(run, Report(images=128, **FIGURES))
    assert find_finished(run.config, **HOW) is None, "it trained on since"
    for content in (b"{", b"{}", b'{"images": 256, "unknown": 1}'):
        run.folder.write(FILE, content)
        assert find_finished(run.config, **HOW) is None
    run.folder.delete(FILE)
    assert find_finished(run.config, **HOW) is None


def test_commands_to_paste_name_the_run_and_its_storage(run, monkeypatch):
    def evaluate() -> list[str]:
        lines = report_lines(run, Report(images=256, **FIGURES))
        (line,) = [each for each in lines if "jobs/evaluate.py" in each]
        return shlex.split(line)

    storage = run.config.storage
    assert evaluate() == ["python", "jobs/evaluate.py", "--run", "mine", "--storage", storage]
    monkeypatch.setenv("UNITE_STORAGE", storage)
    assert evaluate() == ["python", "jobs/evaluate.py", "--run", "mine"]


def test_the_call_for_more_samples_is_one_that_generate_takes(run):
    lines = report_lines(run, Report(images=256, **FIGURES))
    (line,) = [each for each in lines if "generate" in each]
    program, script, *words = shlex.split(line)
    assert (program, script) == ("python", "jobs/generate.py")
    chosen = parse(GenerateArguments, args=words, description=None)
    assert (chosen.run, chosen.num, chosen.labels, chosen.out) == ("mine", 100, "0-9", "samples")


def test_the_classes_to_draw_are_those_that_there_are(run):
    def labels(num_classes: int) -> str | None:
        of_few = replace(run.config, {"domain.num_classes": num_classes})
        lines = report_lines(dataclasses.replace(run, config=of_few), Report(images=1, **FIGURES))
        words = shlex.split(next(each for each in lines if "generate" in each))
        return words[words.index("--labels") + 1] if "--labels" in words else None

    assert [labels(number) for number in (0, 1, 2, 1000)] == [None, "0", "0-1", "0-9"]


def test_a_metric_without_a_row_and_interruptions_are_told(run):
    more = {"metric": "of_another_domain", "interruptions": "once"}
    lines = report_lines(run, Report(images=256, **FIGURES, **more))
    assert "reconstruction  21.0 of_another_domain on held-out images" in lines
    assert "interrupted     once" in lines


def test_a_stopped_run_counts_its_own_samples(run):
    assert stopped_line(run, 1) == "stopped after 1 image; the same command continues"
    of_molecules = dataclasses.replace(run, config=recipe("qm9-tiny"))
    assert stopped_line(of_molecules, 1280).startswith("stopped after 1,280 molecules;")


@pytest.mark.parametrize("half", [{"read_samples": 0.9}, {"read_real": 0.9}])
def test_half_a_reading_of_samples_is_not_told(run, half):
    figures = FIGURES | {"quality": None, "latent_std": None}
    lines = report_lines(run, Report(images=256, **figures, **half))
    assert not [line for line in lines if line.startswith(("samples", "latent", "reconstruction"))]


def test_the_report_of_an_older_version_is_read(run):
    content = run.folder.read_json(FILE)
    content["psnr_db"] = content.pop("quality")
    del content["metric"]
    run.folder.write_json(FILE, content)
    _, report = find_finished(run.config, **HOW)
    assert report == Report(images=256, **FIGURES)
    assert "21.0 dB PSNR on held-out images" in "\n".join(report_lines(run, report))


def test_a_finished_run_says_how_to_train_longer(run):
    words = ["smoke", "--training.epochs", "1", "--name", "mine", "--allow-changes", "--dry-run"]
    lines = finished_lines(run, Report(images=256, **FIGURES), words)
    assert "finished; nothing to do" in lines[0]
    (longer,) = [line for line in lines if "--allow-changes" in line]
    epochs = f"{2 * run.config.training.epochs:g}"
    assert shlex.split(longer) == [
        *("python", "jobs/train.py", "smoke", "--name", "mine"),
        *("--training.epochs", epochs, "--resume", run.folder.uri, "--allow-changes"),
    ]
    anew = "python jobs/train.py smoke --training.epochs 1 --name mine --resume never"
    assert f"  {anew}" in lines, "of the same length"


def test_the_command_of_a_finished_run_loads_nothing_heavy(run):
    storage = run.config.storage
    words = ["jobs/train.py", "smoke", "--name", "mine", "--storage", storage]
    done = typed(*words, heavy=HEAVY | {"scipy"}, UNITE_STORAGE=storage)
    assert "21.0 dB PSNR" in done.stdout
    assert Store.open(storage).list() == ["data", "mine"]
