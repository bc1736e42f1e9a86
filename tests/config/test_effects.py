import pytest

from unite.config.domains import MoleculesConfig
from unite.config.effects import ACTS_WHEN, override, require_effect, without_effect
from unite.config.recipes import names, recipe
from unite.config.schema import RunConfig, SamplingConfig
from unite.config.serialise import flatten, replace

DOPRI5 = SamplingConfig(solver="dopri5", num_steps=50)
USELESS = {
    "sampling.num_steps": ({"sampling.solver": "dopri5"}, 7),
    "sampling.atol": ({"sampling.solver": "heun"}, 1e-7),
    "sampling.rtol": ({"sampling.solver": "euler"}, 1e-4),
    "sampling.cfg_interval": ({"sampling.cfg_scale": 1.0}, (0.2, 0.9)),
    "optim.plateau_epochs": ({"optim.schedule": "cosine"}, (3.0, 5.0)),
    "optim.lr_min": ({"optim.schedule": "plateau"}, 1e-5),
    "optim.muon_momentum": ({"optim.muon": False}, 0.5),
    "optim.muon_eps": ({"optim.muon": False}, 1e-6),
    "flow.t_mean": ({"flow.timesteps": "uniform"}, 0.3),
    "flow.t_std": ({"flow.timesteps": "uniform"}, 0.3),
    "sampling.cfg_scale": ({"domain.num_classes": 0}, 2.0),
    "flow.class_dropout": ({"domain.num_classes": 0}, 0.3),
    "flow.reduction": ({"flow.steps": 1}, "mean"),
    "flow.warmup_fraction": ({"flow.weight": 0.0}, 0.5),
    "reconstruction_noise.form": ({"reconstruction_noise.probability": 0.0}, "additive"),
    "reconstruction_noise.sigma": ({"reconstruction_noise.probability": 0.0}, 0.5),
    "loss.perceptual.weight": ({"loss.reconstruction_weight": 0.0}, 0.5),
    "model.encoder.patch_positions": ({"domain": MoleculesConfig()}, "sincos2d"),
    "training.accumulation": ({"training.micro_batch": 32}, 4),
    "loss.perceptual.input_range": ({"loss.perceptual.weight": 0.0}, "0..1"),
    "model.encoder.in_context_start": ({"model.encoder.in_context_tokens": 0}, 2),
    "training.fit": ({"cluster.use_gpu": False}, "as_set"),
    "training.graphs": ({"cluster.use_gpu": False}, "off"),
    "training.kernels": ({"cluster.use_gpu": False}, "plain"),
    "training.exchange": ({"cluster.num_workers": 1}, "bfloat16"),
    "tracking.uri": ({"tracking.enabled": False}, "http://x"),
    "tracking.experiment": ({"tracking.enabled": False}, "x"),
    "tracking.run_name": ({"tracking.enabled": False}, "x"),
}


def test_the_table_names_fields_of_a_run():
    assert set(ACTS_WHEN) <= set(flatten(RunConfig()))
    assert set(ACTS_WHEN) == set(USELESS)


@pytest.mark.parametrize("field", USELESS)
def test_a_field_that_does_nothing_is_refused_where_it_was_given(field):
    others, value = USELESS[field]
    base = RunConfig()
    config = replace(base, {**others, field: value})
    with pytest.raises(ValueError, match=f"--{field.replace('_', '-')} .* has no effect: it acts"):
        require_effect(config, base)
    require_effect(config, config)  # nobody gave it here
    require_effect(replace(base, others), base)
    assert without_effect(flatten(config), []) == {}


def test_what_is_of_images_is_refused_where_samples_are_none():
    base = recipe("qm9-tiny")
    for name, value in {
        "loss.perceptual.weight": 1.0,
        "model.encoder.patch_positions": "sincos2d",
    }.items():
        with pytest.raises(ValueError, match="has no effect: it acts with images"):
            require_effect(replace(base, {name: value}), base)


def test_a_field_is_taken_together_with_what_it_needs():
    changes = {"optim.schedule": "plateau", "optim.plateau_epochs": (3.0, 5.0)}
    require_effect(replace(RunConfig(), changes), RunConfig())


@pytest.mark.parametrize("name", names())
def test_no_recipe_is_refused_for_what_it_inherits(name):
    require_effect(recipe(name), recipe(name))


def test_settings_of_a_run_are_changed_by_what_is_given():
    assert override(DOPRI5, {}) == DOPRI5
    changed = override(DOPRI5, {"solver": "heun", "num_steps": 7})
    assert (changed.solver, changed.num_steps) == ("heun", 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_steps": 7}, "--num-steps 7 has no effect: it acts with solver heun or midpoint"),
        ({"num_steps": 50}, "--num-steps 50 has no effect"),
        ({"solver": "dopri5", "num_steps": 7}, "--num-steps 7 has no effect"),
        ({"cfg_interval": (0.2, 0.9)}, "--cfg-interval 0.2 0.9 .* acts with cfg_scale above 1"),
        ({"cfg_scale": 0.0}, "cfg_scale = 0.0 must be at least 1"),
        ({"cfg_scale": -2.0}, "cfg_scale = -2.0 must be at least 1"),
        ({"cfg_scale": float("nan")}, "cfg_scale = nan"),
        ({"cfg_scale": float("inf")}, "cfg_scale = inf"),
        ({"cfg_scale": 2.0, "cfg_interval": (0.9, 0.2)}, "low < high"),
        ({"solver": "rk45"}, "solver = rk45 is unknown: use one of dopri5"),
        ({"solver": "heun", "num_steps": 0}, "num_steps = 0 must be above 0"),
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        override(DOPRI5, given)


def test_a_search_for_the_scale_goes_through_scales_at_which_the_interval_acts():
    found = override(DOPRI5, {"cfg_interval": (0.2, 0.9)}, scale_is_searched=True)
    assert found.cfg_interval == (0.2, 0.9) and found.cfg_scale == 1.0
