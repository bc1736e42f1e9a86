"""From axis and scale to trials: identity, sharing of runs, equal budgets, equal parameters."""

from __future__ import annotations

import hashlib
import json

import pytest

from unite.ablation.matching import matched_encoder, trained_parameters
from unite.ablation.options import SweepOptions
from unite.ablation.trials import Trial, expand
from unite.config.axes import find_axis
from unite.config.recipes import recipe
from unite.config.serialise import digest, replace
from unite.training.flops import training_flops
from unite.training.runs import open_run


def sweep(tmp_path, axis: str, **options):
    return expand(find_axis(axis), SweepOptions(storage=str(tmp_path), **options))


def of(found, value: str, arm: str = "", seed: int = 0) -> Trial:
    return next(t for t in found.trials if (t.value, t.arm, t.seed) == (value, arm, seed))


def test_every_point_has_every_seed_and_its_own_identity(tmp_path):
    found = sweep(tmp_path, "flow_ratio", seeds=2)
    points = {(trial.point, trial.seed) for trial in found.trials}
    assert len(points) == len(found.trials) == 2 * 7
    assert len({trial.digest for trial in found.trials}) == len(found.trials)
    assert {trial.config.training.seed for trial in found.trials} == {0, 1}


def test_a_trial_is_the_run_that_the_same_flags_train(tmp_path):
    trial = sweep(tmp_path, "noise").trials[0]
    run = open_run(trial.config)
    assert run.folder.name == f"digits-{trial.digest}"
    assert digest(run.config) == trial.digest


def test_sweeps_share_the_points_that_they_have_in_common(tmp_path):
    noise, shift = (sweep(tmp_path, axis) for axis in ("noise", "shift"))
    sharing = sweep(tmp_path, "weight_sharing")
    assert of(noise, "0.7").digest == of(shift, "0.5").digest == of(sharing, "shared").digest
    assert of(noise, "0.0").digest != of(shift, "0.0").digest


def test_guidance_is_measured_on_one_run_per_seed(tmp_path):
    found = sweep(tmp_path, "cfg", seeds=3)
    assert len(found.works) == 3
    assert len({trial.digest for trial in found.trials}) == len(found.trials)
    assert {trial.config.sampling.cfg_scale for trial in found.trials} == {1.5}
    assert of(found, "3.0").protocol.sampling.cfg_scale == 3.0


def test_whole_seeds_come_first_and_dear_runs_before_cheap_ones(tmp_path):
    works = sweep(tmp_path, "flow_ratio", seeds=2).works
    assert [work.trials[0].seed for work in works] == [0] * 7 + [1] * 7
    costs = [training_flops(work.config).total for work in works[:7]]
    assert costs == sorted(costs, reverse=True)


def test_equal_images_is_the_default_and_equal_compute_equals_flops(tmp_path):
    images = sweep(tmp_path, "flow_ratio")
    assert len({trial.config.training.epochs for trial in images.trials}) == 1
    compute = sweep(tmp_path, "flow_ratio", equal="compute")
    spent = [
        trial.config.training.epochs * training_flops(trial.config).total
        for trial in compute.trials
    ]
    assert spent == pytest.approx([spent[0]] * len(spent))
    assert of(compute, "4", "shared").config == of(images, "4", "shared").config


@pytest.mark.parametrize("name", ["smoke", "digits", "cifar10"])
def test_the_wide_arm_has_the_parameters_of_the_separate_one(name):
    config = recipe(name)
    separate = replace(config, {"model.sharing": "separate"})
    target = trained_parameters(config.domain, separate.model)
    wide = replace(config, matched_encoder(config.domain, config.model, target))
    assert wide.model.sharing == "shared"
    assert trained_parameters(config.domain, wide.model) == pytest.approx(target, rel=0.01)


def test_tags_say_what_a_trial_is(tmp_path):
    found = sweep(tmp_path, "flow_ratio")
    trial = of(found, "14", "separate", seed=1)
    tags = found.tags(trial)
    assert tags["axis"] == "flow_ratio" and tags["value"] == "14" and tags["seed"] == "1"
    assert tags["figure"] == "fig5" and tags["arm"] == "separate"
    assert tags["digest"] == trial.digest
    assert found.label(trial) == "F = 14, separate, seed 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": ("5",)}, "'5' is not on axis flow_ratio"),
        ({"seeds": -1}, "--seeds -1 must not be negative"),
        ({"workers": 5}, "training.batch_size = 32 must be divisible"),
    ],
)
def test_what_cannot_be_swept_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sweep(tmp_path, "flow_ratio", **options)


def test_sweeps_that_draw_other_points_have_names_of_their_own(tmp_path):
    def name(**options):
        return sweep(tmp_path, "flow_ratio", **options).name

    usual = name()
    assert usual == "sweep-flow_ratio-laptop"
    same = ({"seeds": 2}, {"samples": 500}, {"epochs": 12.8}, {"workers": 2}, {"wait_s": 9.0})
    assert {name(**options) for options in same} == {usual}, "they say what the scale says"
    assert name(values=("14", "1")) == name(values=("1", "14")) == f"{usual}-values-1_14"
    assert name(epochs=3.0) == f"{usual}-epochs-3"
    assert name(seeds=3, equal="compute") == f"{usual}-seeds-3-equal-compute"
    assert name(samples=50, extractor=("pixels",)) == f"{usual}-samples-50-extractor-pixels"
    assert name(epochs=1 / 3) != name(epochs=0.333333)


def test_a_place_enters_a_name_by_its_last_part_and_is_told_from_others(tmp_path):
    names = [
        sweep(tmp_path, "noise", scale="gpu", data=place).name
        for place in ("s3://a/cifar10", "s3://b/cifar10", "s3://a/cifar10/")
    ]
    assert all(name.startswith("sweep-noise-gpu-data-cifar10-") for name in names)
    assert names[0] != names[1] and names[0] == names[2]


def test_words_with_commas_make_a_folders_name(tmp_path):
    found = sweep(tmp_path, "stop_grad", values=("shared, stop-grad", "separate, stop-grad"))
    start = "sweep-stop_grad-laptop-values-shared-stop-grad_separate-stop-grad-"
    assert found.name.startswith(start)


def test_another_protocol_is_another_measurement_of_the_same_trial(tmp_path):
    usual, more = (
        sweep(tmp_path, "noise", **options).trials[0] for options in ({}, {"samples": 9})
    )
    assert usual.digest == more.digest
    assert usual.measurement != more.measurement


def test_molecules_are_swept_without_extractors_and_guidance(tmp_path):
    found = sweep(tmp_path, "flow_ratio", scale="molecules")
    assert len(found.trials) == 3 * 7
    protocol = found.trials[0].protocol
    assert (protocol.extractors, protocol.num_images) == ((), 512)
    config = found.trials[0].config
    assert config.training.epochs * 100_000 / config.training.batch_size == pytest.approx(300)
    assert not config.domain.num_classes
    with pytest.raises(ValueError, match="axis cfg has no values at --scale molecules; .* laptop"):
        sweep(tmp_path, "cfg", scale="molecules")
    with pytest.raises(ValueError, match="at --scale laptop; it has some at molecules$"):
        sweep(tmp_path, "pairing", scale="laptop", values=("neither",))
    with pytest.raises(ValueError, match="--extractor pixels has no effect at --scale molecules"):
        sweep(tmp_path, "noise", scale="molecules", extractor=("pixels",))


def test_a_measurement_without_a_limit_keeps_its_identity(tmp_path):
    protocol = sweep(tmp_path, "noise").trials[0].protocol
    sampling = {**vars(protocol.sampling)}
    old = {"sampling": sampling, "num_samples": 500, "extractors": ["pixels", "small"]}
    text = json.dumps(old, sort_keys=True, default=list)
    assert digest(protocol) == hashlib.sha256(text.encode()).hexdigest()[:12]
