"""A run as YAML: whole and partial files, flags over them, every mistake named with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unite.config.files import read_yaml, starting_config, write_yaml
from unite.config.recipes import names, recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace


@pytest.fixture
def read(tmp_path: Path):
    """Reads a text as the file of a run."""

    def of(text: str) -> RunConfig:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        return read_yaml(file)

    return of


@pytest.mark.parametrize("name", names())
def test_every_recipe_comes_back_from_its_file(read, name):
    assert read(write_yaml(recipe(name))) == recipe(name)


def test_a_file_may_hold_a_part_of_a_run_nested_or_dotted(read):
    changes = {"flow.steps": 7, "optim.lr": 1e-4, "optim.betas": (0.8, 0.9), "domain.flip": True}
    expected = replace(recipe("cifar10"), changes)
    # YAML itself reads 1e-4, which has no dot, as text.
    text = "recipe: cifar10\nflow: {steps: 7}\noptim.lr: 1e-4\noptim: {betas: [0.8, 0.9]}\n"
    assert yaml.safe_load(text)["optim.lr"] == "1e-4"
    assert read(text) == expected
    assert read("training:\n  epochs: 2\n") == replace(recipe("digits"), {"training.epochs": 2.0})


MISTAKES = {
    "flow: {step: 3}": "no run has a field 'flow.step'; did you mean flow.steps",
    "batch_size: 3": "no run has a field 'batch_size'; did you mean training.batch_size?",
    "flow: 3": "flow is a group of fields: give flow.steps",
    "data:": "data is a group of fields",
    "flow.steps: many": "flow.steps = 'many' must be a whole number",
    "flow.steps: 3.5": "flow.steps = 3.5 must be a whole number",
    "flow.steps: true": "flow.steps = True must be a whole number",
    "optim.lr: fast": "optim.lr = 'fast' must be a finite number",
    "optim.lr: .inf": "optim.lr = inf must be a finite number",
    "optim.lr: nan": "optim.lr = 'nan' must be a finite number",
    "optim.muon: 1": "optim.muon = 1 must be true or false",
    "optim.betas: 0.9": "optim.betas = 0.9 must be a list of 2 numbers",
    "optim.schedule: linear": "optim.schedule = 'linear' must be one of 'cosine', 'plateau'",
    "name: 12": "name = 12 must be text (in quotes)",
    "recipe: unit-b": "did you mean unite-b",
    "flow: {steps: 3}\nflow.steps: 4": "flow.steps is given twice",
    "flow: {steps: 3}\nflow: {shift: 1}": "flow is given twice",
    "flow: {steps: 3": "is no YAML",
    "- flow": "a run is a mapping of fields",
    "": "a run is a mapping of fields",
    "!!python/object/apply:os.system ['true']": "is no YAML",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_the_file(read, text):
    with pytest.raises(ValueError) as caught:
        read(text)
    assert MISTAKES[text] in str(caught.value)
    assert "run.yaml" in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes("recipe: digits".encode("utf-16") + b"\xff")
    with pytest.raises(ValueError, match=r"run\.yaml is no text in UTF-8"):
        read_yaml(file)


def test_a_command_starts_from_a_recipe_or_a_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: smoke\nflow: {steps: 2}\n")
    expected = replace(recipe("smoke"), {"flow.steps": 2})
    flags = ["--flow.steps", "3"]
    assert starting_config(["--config", str(file), *flags]) == (expected, flags)
    assert starting_config([*flags, f"--config={file}"]) == (expected, flags)
    assert starting_config(["cifar10", *flags]) == (recipe("cifar10"), flags)
    assert starting_config(flags) == (recipe("digits"), flags)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--config", "run.yaml"], "write `recipe: digits` into the file"),
        (["--config"], "--config needs a YAML file"),
        (["--config", "--dry-run"], "--config needs a YAML file"),
        (["--config", "none.yaml"], "--config none.yaml: No such file"),
    ],
)
def test_a_command_line_that_says_no_start(words, message):
    with pytest.raises(ValueError, match=message):
        starting_config(words)


def test_a_range_of_workers_is_text_in_a_file(tmp_path):
    (tmp_path / "run.yaml").write_text("recipe: smoke\ncluster:\n  num_workers: 8..64\n")
    config, _ = starting_config(["--config", str(tmp_path / "run.yaml")])
    assert config.cluster.num_workers == "8..64"
    (tmp_path / "run.yaml").write_text("recipe: smoke\ncluster.num_workers: 2.5\n")
    with pytest.raises(ValueError, match=r"cluster\.num_workers = 2\.5 must be a whole number"):
        starting_config(["--config", str(tmp_path / "run.yaml")])
