"""Finished samples, asked for again: told at once, drawn by nobody."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from typed import typed
from unite.checkpoints.export import write_export
from unite.config.recipes import recipe
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.sampling.arguments import GenerateArguments
from unite.sampling.finished import record_of, settle
from unite.sampling.generate_job import generate
from unite.storage import Store


@pytest.fixture
def asked(tmp_path):
    """Two samples of an export."""
    config = recipe("smoke")
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    write_export(model, to_dict(config), Store.open(tmp_path / "export"))
    return GenerateArguments(
        run=str(tmp_path / "export"), num=2, num_steps=1, out=str(tmp_path / "out")
    )


def kept(asked):
    return record_of(settle(asked, "elsewhere")).lines()


def test_the_same_command_draws_nothing_and_loads_nothing_heavy(asked, root, capsys):
    assert kept(asked) is None
    generate(asked, "elsewhere")
    printed = capsys.readouterr().out.splitlines()
    *lines, last = kept(asked)
    assert lines == printed and "2 samples in" in lines[-1]
    assert last.endswith(f"nothing to do. To do it again, delete {asked.out}")
    words = ["jobs/generate.py", "--run", asked.run, "--num", "2", "--num-steps", "1"]
    done = typed(*words, "--out", asked.out, heavy={"torch", "ray", "mlflow", "rich.progress"})
    assert done.stdout.startswith("\n".join(lines))


def test_the_command_without_options_is_settled(asked):
    settled = settle(GenerateArguments(run=asked.run), "elsewhere")
    assert (settled.run, settled.num) == (asked.run, 100)
    for changes, flag in (({"num": 0}, "--num"), ({"batch_size": -1}, "--batch-size")):
        with pytest.raises(ValueError, match=flag):
            settle(replace(asked, **changes), "elsewhere")


def test_another_request_other_weights_and_missing_samples_are_not_finished(asked):
    generate(asked, "elsewhere")
    assert kept(replace(asked, replace=True)), "the same samples stay"
    assert kept(replace(asked, seed=1)) is None
    assert kept(replace(asked, cfg_scale=2.0)) is None
    weights = Path(asked.run) / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before + b" ")
    assert kept(asked) is None
    Path(asked.out, "000001-class1.png").unlink()
    weights.write_bytes(before)
    assert kept(asked) is None


def test_samples_without_their_grid_are_not_finished(asked):
    generate(asked, "elsewhere")
    assert kept(asked)
    Path(f"{asked.out}-grid.png").unlink()
    assert kept(asked) is None
    generate(asked, "elsewhere")
    assert kept(asked) and Path(f"{asked.out}-grid.png").is_file()


def test_the_record_is_no_sample(asked):
    generate(asked, "elsewhere")
    torch.manual_seed(0)
    generate(replace(asked, seed=1, replace=True), "elsewhere")
    assert kept(replace(asked, seed=1)) and kept(asked) is None
