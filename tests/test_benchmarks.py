"""Every benchmark runs, at a size that measures nothing, and its arms compute the same."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unite.config.recipes import recipe
from unite.domains import build_domain

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark(root, monkeypatch):
    """Imports a script of benchmarks/ as a user's python finds it; arguments become sys.argv."""
    monkeypatch.syspath_prepend(root / "benchmarks")

    def load(name: str, *arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        return importlib.import_module(name)

    return load


@pytest.fixture(autouse=True)
def _threads():
    """Some scripts choose the number of threads; the next test has its own again."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def photos(folder: Path, *, num: int) -> Path:
    """A tree of two classes of random JPEGs."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(num):
        file = folder / f"class{index % 2}" / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (280, 300, 3), dtype=np.uint8)).save(file)
    return folder


def test_both_arms_of_the_training_step_have_the_same_losses(benchmark):
    script = benchmark("train_step")
    options = script.Options(noisings=(2,), batch=8, warmup=1, rounds=2, block=1)
    setting = script.build_setting(options, 2, False, torch.device("cpu"))
    result = script.measure(setting, options)
    assert result.difference() < 1e-5
    assert len(result.losses["ours"]) == 3
    assert result.row(1e9).startswith("| 2 | eager | 8 |")


def test_both_forms_of_the_adaptive_weight_have_the_same_gradient(benchmark, capsys):
    script = benchmark("gan_step")
    options = script.Options(recipe="smoke", batch=8, blocks=2, steps=1)
    script.main(options)
    assert "combined weight, time over VQGAN's" in capsys.readouterr().out
    config = script.finetune_recipe("small", script.recipe("smoke"))
    fields = {"adversarial.adversarial_start": 0.0, "discriminator.features": "tokens"}
    config = script.replace(config, {"loss.perceptual.weight": 0.0, **fields})
    part, gradients = script.micro_batch(config, options), []
    for both in (script.both_players, script.vqgan_players):
        made = script.stage(config, options)
        both(made, part)
        gradients.append(torch.cat([p.grad.flatten() for p in made.decoder.parameters]))
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * scale)


def test_both_arms_of_the_frechet_distance_have_the_same_value(benchmark, capsys):
    script = benchmark("frechet")
    script.main(script.Options(dim=16, samples=200, rounds=2))
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "ours |" in line]
    other = [script.gaussian(script.Options(dim=16, samples=200), seed) for seed in (1, 2)]
    assert float(rows[0][3]) == pytest.approx(script.by_sqrtm(*other), rel=1e-6)


def test_all_samplers_draw_the_same_images(benchmark, capsys):
    script = benchmark("sampling")
    script.main(script.Options(num=4, batch=2, cfg_scales=(1.0,), rounds=1))
    out = capsys.readouterr().out
    assert "Headline, Heun at guidance 1: " in out
    errors = [float(line.split("|")[6]) for line in out.splitlines() if line.startswith("| 1 |")]
    assert max(errors) < 0.05


def test_the_plain_sampler_doubles_its_batch_where_guidance_acts_alone(benchmark):
    script = benchmark("sampling")
    options = script.Options(num=2, batch=2, precision="bfloat16", rounds=1)
    setting = script.build_setting(options)
    assert setting.arms == ("plain", "plain float32", "heun", "dopri5")
    noise, labels = setting.noise, setting.labels
    rows = [setting.sampler("plain float32", scale)(labels, noise)[1] for scale in (1.0, 2.0)]
    assert rows[0] < rows[1] < 3 * rows[0]
    alone = script.replace(options, cfg_interval=(0.98, 0.99))
    setting = script.build_setting(alone)
    assert setting.sampler("plain float32", 2.0)(labels, noise)[1] < 1.2 * rows[0]
    low, full = (setting.sampler(arm, 1.0)(labels, noise)[0] for arm in setting.arms[:2])
    assert not torch.equal(low, full)


def test_a_round_of_every_kind_of_save_leaves_a_checkpoint(benchmark, tmp_path):
    script = benchmark("checkpoint")
    seconds = script.measure(script.Arm(32, torch.device("cpu")), str(tmp_path), rounds=2)
    assert {name: len(rows) for name, rows in seconds.items()} == {
        "none": 2,
        "synchronous": 2,
        "asynchronous": 2,
    }
    assert [len(list(tmp_path.glob(f"{name}/**/COMMITTED"))) for name in ("sync", "async")] == [
        1,
        1,
    ]


def test_lossless_crops_have_no_distance_from_themselves(benchmark, tmp_path, capsys):
    script = benchmark("encoding")
    script.main(script.Options(data=str(photos(tmp_path / "tree", num=4))))
    table = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0]: cells[3:5] for cells in table if len(cells) == 5}
    assert rows["webp lossless"] == ["inf", "0"]
    assert float(rows["jpeg 75"][1]) > float(rows["jpeg 95"][1]) > 0


@pytest.mark.parametrize("file", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_script_is_imported(benchmark, file):
    """Those whose run is long, too: a name that moved shows here."""
    assert benchmark(file).__doc__


@pytest.mark.ray
@pytest.mark.long  # what its arms compute is compared in tests/cluster/test_train.py
def test_the_trainer_is_measured_under_ray_and_without(benchmark, ray_cluster, capsys):
    script = benchmark("orchestration", "--epochs", "0.2", "--rounds", "1")
    # Ray's workers do not look in benchmarks/: what they need of the script travels with the call.
    ray_cluster.cloudpickle.register_pickle_by_value(script)
    try:
        script.main()
    finally:
        ray_cluster.cloudpickle.unregister_pickle_by_value(script)
    out = capsys.readouterr().out
    assert "plain" in out
    assert "Ray Train / plain process" in out


@pytest.mark.ray
@pytest.mark.long  # our pool's killed workers are in tests/fault/test_evaluate_kill.py
def test_both_pools_find_the_same_with_killed_workers_too(benchmark, ray_cluster, capsys):
    script = benchmark("fanout")
    ray_cluster.cloudpickle.register_pickle_by_value(script)
    try:
        script.main(script.Options(samples=128, steps=2, rounds=1))
    finally:
        ray_cluster.cloudpickle.unregister_pickle_by_value(script)
    assert "results bit-equal" in capsys.readouterr().out


@pytest.mark.ray
def test_the_stream_gives_the_pixels_of_torchvision(benchmark, ray_cluster, tmp_path, capsys):
    tree = photos(tmp_path / "tree", num=4)
    arguments = ["--images", "64", "--rounds", "1", "--seconds", "0.1"]
    benchmark("stream", "--data", str(tree), *arguments).main()
    out = capsys.readouterr().out
    assert "largest difference of a pixel (original bytes): 0" in out
    assert "prepared: ratio" in out


def test_the_scan_of_a_storage_counts_every_pair_once(benchmark, capsys):
    script = benchmark("survey")
    script.main(script.Options(checkpoints=6, runs=2))
    assert "| 6 | 2 |" in capsys.readouterr().out


def test_a_large_set_is_opened_by_its_manifest(benchmark, capsys):
    script = benchmark("open_shards")
    script.main(script.Options(shards=10, rows=300))
    assert "| 1 | 300 |" in (out := capsys.readouterr().out) and "| 10 | 3,000 |" in out


def test_many_readers_read_their_share_and_get_a_first_batch(benchmark, tmp_path, capsys):
    script = benchmark("readers")
    tree = str(photos(tmp_path / "tree", num=4))
    small = {"rows": 600, "real_rows": 64, "ranks": 4, "batch": 16, "lanes": (4, 1)}
    script.main(script.Options(data=tree, **small))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[2] for row in rows] == ["640", "640"]
    # Of ten groups of 64 rows a rank's quarter begins and ends in the middle of one; with one
    # lane every rank reads everything.
    assert [float(row[3]) for row in rows] == [1.2, 4.0]


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_worker_is_followed_in_both_arms(root):
    words = [sys.executable, "benchmarks/restart.py", "--rounds", "1"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ours / bare: " in done.stdout


def test_steps_on_molecules_have_one_gradient_however_they_are_padded(benchmark, capsys):
    script = benchmark("molecule_step")
    script.main(script.Options(batch=8, groups=2, steps=1))
    assert "gradients agree" in capsys.readouterr().out
    for name in ("perov-tiny", "qm9-mp20-tiny", "digits"):
        domain = build_domain(recipe(name).domain)
        fields = script.batch_of(domain, 16, seed=0)
        sizes = domain.sizes(fields)
        assert sizes is None or (sizes == (fields["numbers"] > 0).sum(1)).all()
        domain.to_sample({key: torch.from_numpy(values) for key, values in fields.items()})


def test_threads_of_arithmetic_are_timed_in_processes_of_their_own(benchmark):
    script = benchmark("barriers")
    options = script.Options(batch=4, steps=1, rounds=1)
    assert script.run_arm("smoke", "two as `unite` sets them", options) > 0
    with script.neighbour(busy=True):
        pass


def test_molecules_decode_alike_from_bytes_and_from_lists(benchmark, capsys):
    script = benchmark("molecule_stream")
    script.main(script.Options(rows=40, rounds=1))
    assert "arrays equal" in capsys.readouterr().out


def test_chemistry_gives_the_same_whatever_the_processes(benchmark, capsys):
    for package in ("rdkit", "pymatgen", "openbabel"):
        pytest.importorskip(package)
    script = benchmark("molecule_metrics")
    script.main(script.Options(molecules=3, matched=2, rounds=1))
    assert "verdicts equal" in capsys.readouterr().out


def test_every_script_finds_the_package_of_its_own_checkout(root):
    """The path is set before the first import of the package, so that nothing need be installed."""
    for path in sorted((root / "benchmarks").glob("*.py")):
        body = ast.parse(path.read_text()).body
        lines = [ast.unparse(node) for node in body]
        first = next((i for i, line in enumerate(lines) if "from unite" in line[:10]), None)
        run = "__name__" in lines[-1]
        if first is not None and run:
            assert any("sys.path.insert" in line for line in lines[:first]), path.name


def test_no_loss_is_missed_when_a_log_point_follows_a_step_that_nobody_has_read(benchmark):
    """A GPU's numbers come a step late: what is pending is read before a log point's own."""
    arms = benchmark("train_step_arms")
    unused: Any = None
    recorder = arms.Recorder(unused, 8, patience=1, advice="")
    copied = SimpleNamespace(synchronize=lambda: None)
    recorder._pending = (["loss/total"], torch.tensor([2.0]), copied, 0)
    assert recorder.read(["loss/total"], torch.tensor([1.0]), 8, now=True) == {"loss/total": 1.0}
    assert recorder.losses == [2.0, 1.0]


def test_random_lpips_is_one_network_in_both_arms(benchmark):
    """No file is read: the platform's way to compute it agrees with the obvious one."""
    script, arms = benchmark("random_lpips"), benchmark("train_step_arms")
    config = importlib.import_module("train_step").recipe("unite-b")
    changes = {"compile": False, "precision": "float32"}
    config = replace(config, training=replace(config.training, **changes))
    ours = script.random_perceptual(config, torch.device("cpu"))
    pair = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(*pair), arms.plain_lpips(ours)(*pair), rtol=1e-4, atol=1e-6)


def test_the_list_for_a_gpu_ends_in_time_and_keeps_every_row(benchmark, tmp_path, monkeypatch):
    """A row that crashes, one that is too slow and one that is not reached cost nothing else."""
    script = benchmark("gpu")
    code = {
        "good": "print('ROW {\"a\": 1}')",
        "bad": "raise SystemExit('out of memory')",
        "slow": "import time; print('ROW {\"b\": 2}', flush=True); time.sleep(600)",
        "long": "print('ROW {\"a\": 7}'); raise SystemExit(75)",
        "late": "print('ROW {\"a\": 3}')",
    }
    for name, text in code.items():
        (tmp_path / f"{name}.py").write_text(text)
    limits = {"slow": 4.0}
    made = [
        script.Step(name=f"x {n}", words=(f"{n}.py",), limit_s=limits.get(n, 60.0)) for n in code
    ]
    monkeypatch.setattr(script, "HERE", tmp_path)
    monkeypatch.setattr(script, "toy_steps", lambda: made)
    monkeypatch.setattr(script, "card_of", lambda: "a card")
    out = tmp_path / "out"
    assert script.main(script.parse(["--toy", "--out", str(out)])) == 1
    kept = json.loads(next(out.glob("*_gpu.json")).read_text())
    states = {name.split()[1]: result["state"] for name, result in kept.items()}
    assert states["good"] == states["late"] == "done"
    assert states["bad"] == "exit code 1: out of memory" and states["slow"] == "cut after 4 s"
    assert kept["x slow"]["rows"] == [{"b": 2}]
    assert states["long"].startswith("cut: ") and kept["x long"]["rows"] == [{"a": 7}]
    report = next(out.glob("*_gpu.md")).read_text()
    assert "| x good | 1 |" in report and "- x bad: exit code 1" in report
    (tmp_path / "bad.py").write_text("print('ROW {\"a\": 5}')")
    (tmp_path / "good.py").write_text("raise SystemExit(3)")
    again = script.parse(["--toy", "--out", str(out), "--only", "good", "bad"])
    assert script.main(again) == 0, "what is there is not measured again"
    assert "| x bad | 5 |" in next(out.glob("*_gpu.md")).read_text()


def test_rows_of_another_card_or_day_are_not_gone_on_with(benchmark, tmp_path):
    """A report that came with the checkout is as young as the checkout."""
    script = benchmark("gpu_report")
    first = script.Results(tmp_path, "an H200", "abc")
    first.keep("x", "", "done", [{"a": 1}])
    assert script.Results(tmp_path, "an H200", "def").has("x")
    other = script.Results(tmp_path, "an H100", "abc")
    assert not other.has("x") and other.file != first.file
    other.keep("y", "", "done", [{"a": 2}])
    assert script.Results(tmp_path, "an H100", "abc").has("y")
    assert script.Results(tmp_path, "an H200", "abc").has("x")
    first.file.rename(tmp_path / "2026-01-01_gpu.json")
    assert not script.Results(tmp_path, "an H200", "abc").has("x")


def test_the_plain_arm_has_no_kernels(benchmark, monkeypatch):
    """On a GPU its blocks would take them, as ours do."""
    arms, seen = benchmark("train_step_arms"), []

    def note(model, training, device):
        seen.append((training.kernels, training.compile))
        return model

    monkeypatch.setattr(arms, "parallelize", note)
    config = importlib.import_module("train_step").recipe("smoke")
    config = replace(config, training=replace(config.training, compile=True))
    setting = arms.Setting.of(config, torch.device("cpu"), 100)
    for arm in (arms.Plain, arms.Ours):
        arm(setting)
    assert seen == [("plain", False), ("auto", True)]


def test_the_list_for_a_gpu_is_named_without_one(root):
    """--dry-run needs no torch: it names every row, its limit and its goal."""
    words = [sys.executable, "-S", root / "benchmarks" / "gpu.py", "--dry-run", "--jobs", "fig5"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("kernels") and lines[-1].startswith("job fig5")
    assert any("145/s, MFU 48%" in line for line in lines)


def test_the_table_of_many_gpus_is_what_the_script_makes(benchmark, root):
    script = benchmark("scaling")
    size = script.size_of(script.replace(script.recipe("unite-b"), {}))
    text = (root / "docs" / "scaling.md").read_text()
    assert "\n".join(script.table(size)) in text
    assert script.busiest_share(size.shapes, 1) == 1.0
    fast, slow = (script.step(size, 64, rate) for rate in script.LINKS.values())
    assert slow.window == fast.window and fast.total < slow.total


PLAIN_MACHINE = """
import json, runpy, sys

sys.modules |= dict.fromkeys({missing!r})  # importing any of them is an error
for words in {steps!r}:
    sys.argv = words
    runpy.run_path({script!r}, run_name="__main__")
"""
MISSING = ("ray", "mlflow", "tyro", "lpips", "torchvision", "simplejpeg", "boto3", "sklearn")


@pytest.mark.slow
def test_rows_for_a_gpu_need_little_more_than_torch(benchmark, root):
    names = ("train F=2, cold", "train F=2, released", "sampling, ours")
    steps = [list(each.words) for each in benchmark("gpu").toy_steps() if each.name in names]
    assert {words[0] for words in steps} == {"gpu_steps.py"} and len(steps) == len(names)
    script = root / "benchmarks" / "gpu_steps.py"
    words = PLAIN_MACHINE.format(missing=MISSING, steps=steps, script=str(script))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, env=env, cwd=script.parent
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    assert len(rows) == 2 + 2 and all(row["recipe"] == "smoke" for row in rows), "two samplers"


@pytest.mark.slow
def test_a_long_job_goes_on_where_it_was_stopped(root, tmp_path):
    words = [root / "benchmarks" / "gpu_jobs.py", "cifar10", "--toy", "--out", tmp_path]
    rows = []
    for seconds, code in (("30", 75), ("600", 0)):  # 30 s are kept for saving: at once, then all
        env = os.environ | {"BENCHMARK_SECONDS": seconds}
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, env=env
        )
        assert done.returncode == code, done.stdout + done.stderr
        line = next(line for line in done.stdout.splitlines() if line.startswith("ROW "))
        rows.append(json.loads(line[4:]))
    assert 0 < rows[0]["images"] < rows[1]["images"]
    assert "fd-pixels" in rows[1] and "fd-pixels" not in rows[0]


def test_commands_run_in_both_checkouts_each_in_a_storage_of_its_own(benchmark, tmp_path, capsys):
    """The second command sees what the first has left in its own arm and round, and no more."""
    checkouts = [tmp_path / name for name in ("before", "after")]
    for each in checkouts:
        each.mkdir()
    first = "touch $UNITE_STORAGE/first && ls $UNITE_STORAGE >> seen"
    second = "touch $UNITE_STORAGE/second && ls $UNITE_STORAGE >> seen"
    commands = [f"sh -c '{each}'" for each in (first, second)]
    benchmark("commands", *map(str, checkouts), *commands, "--rounds", "2").main()
    for each in checkouts:
        assert (each / "seen").read_text().split() == ["first", "first", "second"] * 3
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [len(each) for each in rows] == [5, 5]


def test_memory_and_time_of_a_command_are_those_of_its_processes(benchmark, tmp_path):
    script = benchmark("commands")
    child = "import time; held = b'1' * 2**27; time.sleep(0.3)"
    found = script.run(f'sh -c "python3 -c \\"{child}\\"; true"', tmp_path, tmp_path)
    assert found.seconds > 0.3
    assert 2**27 < found.bytes < 2**29
    with pytest.raises(RuntimeError, match="no such thing"):
        script.run("sh -c 'echo no such thing; false'", tmp_path, tmp_path)


def writing(benchmark, database: str, **sizes):
    """What many trackers on one server left; skipped where the database cannot be had."""
    script = benchmark("trackers")
    why = script.lacks_postgresql() if database == "postgresql" else ""
    if why:
        pytest.skip(f"needs a PostgreSQL: {why}")
    (seen,) = script.main(script.Options(database=database, **sizes))
    return seen


@pytest.mark.mlflow_server
@pytest.mark.long  # one run's points on a server are in tests/tracking/test_mlflow_server.py
def test_every_point_of_many_trackers_arrives_once(benchmark):
    seen = writing(benchmark, "sqlite", trackers=8, points=3, metrics=4, pause_s=0.1)
    assert seen.failed_starts == 0
    assert seen.logged == seen.arrived == seen.distinct == 8 * 3 * 4


@pytest.mark.mlflow_server
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_one_of_72_000_points_arrives_once(benchmark, database):
    seen = writing(benchmark, database, trackers=200, points=30)
    assert seen.failed_starts == 0
    assert seen.logged == seen.arrived == seen.distinct == 72_000
