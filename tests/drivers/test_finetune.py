"""The command line of a fine-tuning: what it makes of a parent and what it refuses, without Ray."""

from __future__ import annotations

from dataclasses import replace as replace_dataclass

import pytest

from tiny_run import train_tiny
from unite.config.finetune import FinetuneRunConfig
from unite.config.serialise import flatten, replace
from unite.data.ingest.digits import prepare_digits
from unite.drivers.finetune import notes, prepare
from unite.runs import read_run_config
from unite.storage import Store
from unite.training.finetune_arguments import read_request
from unite.training.flops import training_flops
from unite.training.runs import begin
from unite.weights import MissingWeightsError


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A storage with a run of two steps in it, `parent`."""
    changes = {
        "training.epochs": 2 * 32 / 1500,
        "evaluation.every_images": 1_000_000,
        "tracking.enabled": False,
    }
    return train_tiny(tmp_path_factory.mktemp("storage"), name="parent", **changes)


def ask(storage, *words, recipe_word=()):
    return read_request([*recipe_word, "--run", "parent", "--storage", str(storage), *words], "")


def test_defaults_are_the_recipes_and_the_parents(storage):
    request = ask(storage, recipe_word=["small"])
    parent = read_run_config(f"{storage}/parent")
    before, after = flatten(parent), flatten(request.config)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"name"}
    assert request.config.finetune.batch_size == 64
    assert request.config.name.startswith("parent-gan-")
    assert request.config.parent.images == 64 and len(request.config.parent.digest) == 16


def test_flags_override_and_name_another_run(storage):
    first, second = ask(storage), ask(storage, "--adversarial.weight", "0.1")
    assert second.config.adversarial.weight == 0.1 and second.config.name != first.config.name
    control = ask(storage, "--adversarial.weight", "0")
    assert control.config.name.startswith("parent-control-")
    noiseless = ask(storage, "--reconstruction-noise.probability", "0")
    assert noiseless.config.reconstruction_noise.probability == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--discriminator.taps", "7"], r"taps = \(7,\): 7 is no index"),
        (["--adversarial.weight", "-1"], "must not be negative"),
        (["--adversarial.weight", "0", "--discriminator.init", "random"], "options without effect"),
        (["--run", "nothing"], "there is no run 'nothing'"),
    ],
)
def test_mistakes_are_told_before_anything_starts(storage, words, message):
    with pytest.raises(Exception, match=message):
        ask(storage, *words)


def test_other_data_than_the_parents_is_refused(storage, tmp_path):
    other = tmp_path / "other"
    prepare_digits(Store.open(other))
    file = next(other.glob("train-*"))
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(file).slice(0, 1000), file)
    for manifest in other.glob("*.json"):
        manifest.unlink()
    request = ask(storage, "--data", str(other), recipe_word=["small"])
    with pytest.raises(ValueError, match="fine-tuned on other images. Give --data"):
        prepare(request)


def test_missing_weights_of_lpips_are_told_before_anything_starts(storage, tmp_path):
    request = ask(storage, recipe_word=["small"])
    changes = {"loss.perceptual.weight": 1.0, "weights": str(tmp_path)}
    with pytest.raises(MissingWeightsError, match="vgg"):
        prepare(replace_dataclass(request, config=replace(request.config, changes)))


def test_the_plan_names_parent_and_adversary(storage):
    request = ask(storage, recipe_word=["small"])
    lines = "\n".join(notes(request, prepare(request)))
    assert "parent: parent after 64 images (checkpoint " in lines
    assert "adversary: hinge, weight 0.75 (adaptive)" in lines
    control = ask(storage, "--adversarial.weight", "0", recipe_word=["small"])
    assert "adversary: none, the control" in "\n".join(notes(control, prepare(control)))
    assert "warning: the decoder is trained for 47 steps only" in "\n".join(
        notes(ask(storage), prepare(ask(storage)))
    )


def test_a_stored_config_is_read_back_as_what_it_is(storage):
    request = ask(storage, recipe_word=["small"])
    run = prepare(request)
    begin(run)
    assert isinstance(read_run_config(run.folder.uri), FinetuneRunConfig)
    assert read_run_config(run.folder.uri) == run.config


def test_flops_count_both_players(storage):
    config = ask(storage).config
    control = training_flops(replace(config, {"adversarial.weight": 0.0}))
    whole = training_flops(config)
    frozen = training_flops(replace(config, {"discriminator.trunk": "frozen"}))
    assert control.terms["tokenize"].backward == 0
    assert whole.terms["discriminate"].backward == 5 * control.terms["tokenize"].forward
    assert control.model < frozen.model < whole.model
