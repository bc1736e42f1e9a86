"""The `unite` command as a user types it."""

import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import unite
from unite.checkpoints.store import CheckpointWriter, folder_of
from unite.cli import main
from unite.config.files import read_yaml
from unite.config.recipes import names, recipe
from unite.config.schema import CheckpointConfig
from unite.config.serialise import diff, to_dict
from unite.domains import build_domain
from unite.models import UNITE
from unite.storage import Store

AUTHORS = "tests/parity/authors_tiny"


@pytest.fixture
def type_in(capsys, monkeypatch, root):
    """Run `unite ARGS` in the repository root; returns (output, what went wrong or None)."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str) -> tuple[str, str | None]:
        with pytest.raises(SystemExit) as end:
            main(args)
        told = capsys.readouterr()
        if not end.value.code:
            return told.out, None
        return told.out, told.err or str(end.value.code)

    return run


@pytest.fixture
def run_folder(tmp_path) -> Store:
    """A run with two committed checkpoints."""
    run = Store.open(tmp_path / "run")
    config = recipe("smoke")
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = {"momentum": torch.zeros(3)}
    writer = CheckpointWriter(run=run, config=CheckpointConfig(asynchronous=False))
    for images in (256, 512):
        state = {
            "images": images,
            "step": images // 32,
            "config": to_dict(config),
            "manifest_digest": "abc123",
            "metrics": {"eval/psnr": images / 100},
        }
        writer.save({"model": weights, "ema": weights, "optimizer": optimizer}, state)
    writer.close()
    return run


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from unite.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'ray', 'mlflow', 'pyarrow'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "HEAVY []" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("recipes",),
        ("diff",),
        ("inspect",),
        ("import-authors",),
        ("mlflow", "push"),
        ("mlflow", "doctor"),
        ("cluster", "check"),
    ],
)
def test_every_subcommand_explains_itself(type_in, words):
    out, end = type_in(*words, "--help")
    assert end is None
    assert f"usage: unite {' '.join(words)}" in out


def test_recipes_show_true_sizes(type_in):
    out, end = type_in("recipes")
    assert end is None
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert set(names()) <= set(rows)
    # METHOD 2: 217,643,616 and 545,528,384 and 762,776,352 parameters
    assert rows["unite-b"][-3:] == ["130.6", "86.2", "217.6"]
    assert rows["unite-l"][-1] == "545.5"
    assert rows["unite-xl"][-1] == "762.8"


def test_a_recipe_is_written_as_the_file_of_a_run(type_in, tmp_path):
    out, end = type_in("recipes", "unite-b", "--yaml")
    assert end is None
    (tmp_path / "run.yaml").write_text(out)
    assert read_yaml(tmp_path / "run.yaml") == recipe("unite-b")
    out, _ = type_in("recipes", "unite-l")
    assert "unite-l" in out and "unite-b" not in out
    assert "545,528,384" in out, "METHOD 2, to the unit"
    for words in (("recipes", "unit-b"), ("recipes", "unit-b", "--yaml")):
        assert "did you mean unite-b" in (type_in(*words)[1] or "")
    assert "name it" in (type_in("recipes", "--yaml")[1] or "")


def test_diff_is_complete(type_in):
    out, _ = type_in("diff", "paper", "released")
    expected = diff(recipe("unite-b-paper"), recipe("unite-b-released"))
    fields = [name for name, _, _ in expected if name != "recipe"]
    table, decided, alike = out.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[1:]] == fields
    assert re.search(r"flow\.steps +14 +3 *\n", out), "a plain fact of both sources"
    marked = {line.split()[0] for line in table.splitlines() if line.endswith("decision")}
    reasons = {line.split(":")[0].strip() for line in decided.splitlines()[1:]}
    assert marked == reasons >= {"model.init", "optim.warmup_epochs", "optim.plateau_epochs"}
    assert "reconstruction_noise.form: interpolated. The paper's text" in alike


@pytest.mark.parametrize("pair", [("paper", "checkpoints"), ("released", "checkpoints")])
def test_diff_compares_any_two_variants(type_in, pair):
    out, _ = type_in("diff", *pair)
    for field, *_ in diff(*(recipe(f"unite-b-{variant}") for variant in pair)):
        assert field == "recipe" or re.search(rf"^{re.escape(field)} ", out, re.MULTILINE)


def test_diff_takes_recipes_and_a_base(type_in):
    out, _ = type_in("diff", "unite-b", "unite-l")
    assert re.search(r"model\.encoder\.depth +12 +24", out)
    out, _ = type_in("diff", "paper", "released", "--recipe", "digits")
    assert "digits-paper" in out and "digits-released" in out
    out, end = type_in("diff", "digits", "cifar10")  # the example of its help: no decision differs
    assert end is None and re.search(r"domain\.size +8 +32", out)
    out, _ = type_in("diff", "paper", "paper")
    assert "are the same" in out


def test_diff_of_an_unknown_recipe_suggests(type_in):
    _, end = type_in("diff", "unite-b", "unite-l", "--recipe", "digits")
    assert "--recipe digits has no effect on unite-b and unite-l" in end
    _, end = type_in("diff", "unite-x", "released")
    assert "unknown recipe 'unite-x'" in end and "unite-xl" in end


def test_inspect_a_run(type_in, run_folder):
    out, end = type_in("inspect", str(run_folder))
    assert end is None
    assert "2 committed checkpoints" in out
    assert re.search(r"256 +8 +eval/psnr 2\.56", out)
    assert max(map(len, out.replace(str(run_folder), "RUN").splitlines())) <= 100
    assert re.search(r"images seen +512", out)
    assert re.search(r"EMA weights +yes", out)
    assert re.search(r"optimiser state +yes", out)
    assert out.count(" ok") == 4, "model, ema, optimizer and state have their digests checked"


def test_inspect_takes_latest_and_names_and_keeps_metric_names_whole(type_in, run_folder):
    folder = folder_of(run_folder, 512)
    state = folder.read_json("state.json")
    state["metrics"] |= {f"loss/a_term_with_a_long_name_{i}": 1.0 for i in range(9)}
    folder.write_json("state.json", state)
    marker = folder.read_json("COMMITTED")
    marker["sha256"]["state.json"] = folder.digest("state.json")
    folder.write_json("COMMITTED", marker)
    run_folder.write_json("config.json", state["config"])
    storage = ("--storage", str(run_folder).rpartition("/")[0])
    out, _ = type_in("inspect", "latest", *storage)
    assert (
        "2 committed checkpoints" in out
        and max(map(len, out.replace(str(run_folder), "RUN").splitlines())) <= 100
    )
    assert all(f"loss/a_term_with_a_long_name_{i} 1" in out for i in range(9))
    assert "2 committed checkpoints" in type_in("inspect", "run", *storage)[0]


def test_inspect_counts_tensors(type_in, run_folder):
    out, _ = type_in("inspect", str(folder_of(run_folder, 512)))
    state = unite.load(str(run_folder)).state_dict()
    numbers = sum(tensor.numel() for tensor in state.values())
    assert re.search(rf"ema\.safetensors +[\d,]+ +{len(state)} +{numbers:,} +ok", out)


def test_inspect_finds_damage(type_in, run_folder):
    folder = folder_of(run_folder, 512)
    data = bytearray(folder.read("ema.safetensors"))
    data[-1] ^= 1
    folder.write("ema.safetensors", bytes(data))
    folder.delete("optimizer.safetensors")
    out, end = type_in("inspect", str(folder))
    assert re.search(r"ema\.safetensors .*CHANGED", out)
    assert re.search(r"optimizer\.safetensors .*MISSING", out)
    assert re.search(r"model\.safetensors .*ok", out)
    assert "damaged" in end


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_inspect_names_a_damaged_file_of_the_run(type_in, run_folder, name):
    run_folder.write(name, b'{"recipe": "smo')
    out, end = type_in("inspect", str(run_folder))
    assert "2 committed checkpoints" in out and f"{name} is not JSON" in end


def test_inspect_survives_a_torn_file(type_in, run_folder):
    folder = folder_of(run_folder, 512)
    folder.write("ema.safetensors", b"\xff" * 20)
    out, end = type_in("inspect", str(folder))
    assert re.search(r"ema\.safetensors .*CHANGED", out)
    assert "damaged" in end


def test_inspect_refuses_what_is_none(type_in, tmp_path):
    assert "there is no run" in type_in("inspect", str(tmp_path / "no"))[1]
    assert "holds no checkpoint" in type_in("inspect", str(tmp_path))[1]
    (tmp_path / "000000000512").mkdir()
    (tmp_path / "000000000512" / "state.json").write_text("{}")
    assert "no COMMITTED" in type_in("inspect", str(tmp_path / "000000000512"))[1]


def test_import_authors_reports_every_key(type_in, tmp_path):
    out, end = type_in("import-authors", AUTHORS, "--out", str(tmp_path / "ours"))
    assert end is None
    assert "mapped   latent_tokens -> tokenizer.registers" in out
    assert re.search(r"dropped  encoder\.pos_embed: \w+", out)
    assert "144 mapped, 6 dropped, 0 unknown, 0 missing" in out
    theirs, ours = unite.load(AUTHORS), unite.load(str(tmp_path / "ours"))
    assert ours.config == theirs.config
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    out, _ = type_in("inspect", str(tmp_path / "ours"))
    assert "depth 6, width 48, 4 heads" in out


def test_one_of_several_averages_is_imported_by_its_name(type_in, tmp_path):
    released = load_file(f"{AUTHORS}/state_dict.safetensors")
    flat = {f"model.{name}": tensor for name, tensor in released.items()}
    flat |= {f"ema_1.{name}": tensor for name, tensor in released.items()}
    flat |= {f"ema_2.{name}": tensor for name, tensor in released.items()}
    flat["ema_2.latent_tokens"] = released["latent_tokens"] + 1
    torch.save({"state_dict": flat}, tmp_path / "light.ckpt")
    shutil.copy(f"{AUTHORS}/config.json", tmp_path)
    out, _ = type_in("inspect", str(tmp_path / "light.ckpt"))
    assert "state_dict/model, state_dict/ema_1, state_dict/ema_2" in out
    assert "EMA weights      yes" in out
    to = ("--out", str(tmp_path / "ours"), "--state", "state_dict/ema_2")
    type_in("import-authors", str(tmp_path / "light.ckpt"), *to)
    _, end = type_in("import-authors", "any.ckpt", *to, "--no-ema")
    assert "--no-ema has no effect with --state" in end
    registers = unite.load(str(tmp_path / "ours")).tokenizer.registers
    assert torch.equal(registers, released["latent_tokens"] + 1)


def test_import_authors_overwrites_nothing(type_in, tmp_path):
    type_in("import-authors", AUTHORS, "--out", str(tmp_path))
    _, end = type_in("import-authors", AUTHORS, "--out", str(tmp_path))
    assert "already holds a model" in end
    _, end = type_in("import-authors", str(tmp_path), "--out", str(tmp_path / "again"))
    assert "not in the authors' layout" in end


def test_cluster_check(type_in, tmp_path):
    out, end = type_in("cluster", "check")
    assert end is None
    assert "cluster.yaml is valid" in out
    assert re.search(r"gpu_spot +g5\.12xlarge +spot +0 +4", out)
    (tmp_path / "bad.yaml").write_text("a: 1")
    assert "is no cluster file" in type_in("cluster", "check", str(tmp_path / "bad.yaml"))[1]


def test_mlflow_push_names_what_is_missing(type_in, tmp_path):
    _, end = type_in("mlflow", "push", str(tmp_path / "metrics.jsonl"))
    assert str(tmp_path) in end


@pytest.mark.slow
def test_mlflow_doctor_writes_and_reads(type_in, tmp_path):
    out, end = type_in("mlflow", "doctor", "--uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert end is None
    assert out.count("ok  ") == 2
    assert "mlflow ui --backend-store-uri" in out


def test_mlflow_doctor_names_a_bad_uri(type_in, tmp_path):
    _, end = type_in("mlflow", "doctor", "--uri", str(tmp_path))
    assert "not supported" in end
