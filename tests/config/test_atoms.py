"""Recipes of molecules and crystals: sound, and of the sizes that the paper's tables mean."""

import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import from_dict, to_dict
from unite.config.validate import validate
from unite.domains import build_domain
from unite.models import UNITE
from unite.models.groups import parameter_counts

NAMES = ("qm9", "mp20", "qm9-tiny", "mp20-tiny", "perov-tiny")


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_sound_and_have_a_register_for_each_atom(name):
    config = validate(recipe(name))
    assert config.model.num_registers == config.domain.max_atoms
    assert config.model.latent_dim == 16
    assert (config.flow.class_dropout, config.sampling.cfg_scale) == (0, 1)


@pytest.mark.parametrize("name", ["qm9-mp20", "qm9-mp20-tiny"])
def test_joint_recipes_have_the_kind_as_their_class(name):
    config = validate(recipe(name))
    assert (config.domain.num_classes, config.model.num_registers) == (2, 29)
    assert (config.flow.class_dropout, config.sampling.cfg_scale) == (0.1, 2.0)


def test_a_joint_config_survives_its_file():
    config = recipe("qm9-mp20")
    assert from_dict(type(config), to_dict(config)) == config


def test_unite_s_has_the_papers_33_million_in_its_encoder():
    config = recipe("qm9")
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    counts = parameter_counts(model)
    decoder = counts["decoder"] + counts["decoder_stem"]
    assert round(counts["generative_encoder"] / 1e6, 1) == 32.6
    assert round(decoder / 1e6, 1) == 21.5


@pytest.mark.parametrize(("name", "steps"), [("qm9", 1.56e6), ("mp20", 5.3e5)])
def test_the_papers_runs_have_its_batch_rate_and_length(name, steps):
    config = recipe(name)
    assert (config.optim.lr, config.optim.muon, config.training.batch_size) == (1e-4, False, 512)
    train = 100_000 if name == "qm9" else 27_136
    total = config.training.epochs * train / 512
    assert total == pytest.approx(steps, rel=0.01)
    assert config.flow.warmup_fraction * total == pytest.approx(2_000)
    assert config.optim.warmup_epochs * train / 512 == pytest.approx(1_000)


def test_small_recipes_see_as_much_of_a_part_as_of_the_whole():
    """120,000 molecules: 1.2 epochs of all, or 4 of a part, with 40 steps of warm-up or more."""
    config = recipe("qm9-tiny")
    assert config.training.epochs * 100_000 == pytest.approx(4 * 30_000)
    batch = config.training.batch_size
    assert config.optim.warmup_epochs * 30_000 / batch > 40
    assert config.flow.warmup_fraction * 120_000 / batch == pytest.approx(300)


@pytest.mark.parametrize("name", ["mp20", "mp20-tiny", "perov-tiny"])
def test_coordinates_of_crystals_are_on_circles(name):
    assert recipe(name).domain.frac_code == "circle"


@pytest.mark.parametrize("name", ["mp20-tiny", "perov-tiny"])
def test_small_recipes_of_crystals_turn_no_positions_and_use_muon(name):
    config = recipe(name)
    assert not config.domain.rotate and config.domain.translate
    assert config.optim.muon
    assert config.domain.position_weight == 100


@pytest.mark.parametrize(("name", "train"), [("mp20-tiny", 8_255), ("perov-tiny", 3_787)])
def test_small_recipes_of_crystals_ramp_the_flow_over_300_steps(name, train):
    config = recipe(name)
    steps = config.training.epochs * train / config.training.batch_size
    assert config.flow.warmup_fraction * steps == pytest.approx(300)
