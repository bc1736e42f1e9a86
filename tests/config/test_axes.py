"""The axes as data: every value runs, every figure of the paper that is named exists."""

from __future__ import annotations

import pytest

from unite.config.axes import AXES, Axis, find_axis
from unite.config.recipes import recipe
from unite.config.scales import SCALES
from unite.config.serialise import replace
from unite.config.validate import validate
from unite.paper import TABLES

axes = pytest.mark.parametrize("axis", AXES.values(), ids=list(AXES))


@axes
@pytest.mark.parametrize("scale", SCALES)
def test_every_value_is_a_config_that_runs(axis: Axis, scale):
    base = replace(recipe(SCALES[scale].recipe), dict(SCALES[scale].fields))
    for arm in axis.arms:
        for value in axis.chosen(scale):
            validate(replace(base, {**arm.fields, **axis.fields[value]}))


@axes
def test_values_at_a_scale_and_of_an_arm_are_on_the_axis(axis: Axis):
    chosen = [axis.values, *(arm.values for arm in axis.arms)]
    for values in chosen:
        for scale, named in values.items():
            assert scale in SCALES
            assert set(named) <= set(axis.fields)


@axes
def test_what_the_paper_is_quoted_for_stands_in_its_tables(axis: Axis):
    names = {arm.name for arm in axis.arms}
    for cells in axis.paper.values():
        for (arm, value), cell in cells.items():
            assert arm in names and value in axis.fields
            assert cell.metric in TABLES[cell.table].rows[cell.row]


@axes
def test_a_claim_is_what_the_paper_found(axis: Axis):
    for claim in axis.claims:
        better, worse = (
            TABLES[cell.table].rows[cell.row][cell.metric]
            for cell in (axis.paper[claim.role][point] for point in (claim.better, claim.worse))
        )
        assert better < worse, claim


@pytest.mark.parametrize(
    ("name", "table"),
    [("noise", "ablation_reconstruction_noise"), ("shift", "ablation_noise_shift")],
)
def test_table_6_is_complete(name, table):
    assert tuple(AXES[name].fields) == tuple(TABLES[table].rows)
    assert {cell.row for cell in AXES[name].paper["generation"].values()} == set(TABLES[table].rows)


def test_only_guidance_needs_no_training_of_its_own():
    assert [axis.name for axis in AXES.values() if not axis.trains] == ["cfg"]


def test_an_axis_is_found_by_its_script_and_every_axis_has_one(root):
    # Arms of the decoder's fine-tuning are no values of one field: no axis, a driver of their own.
    scripts = {path.stem: path for path in (root / "ablations").glob("*.py")}
    assert scripts.keys() == {f"sweep_{name}" for name in AXES} | {"sweep_decoder_gan"}
    for name in AXES:
        script = scripts[f"sweep_{name}"]
        assert find_axis(str(script)).name == name
        assert f'main("{name}", __doc__)' in script.read_text()


def test_an_unknown_axis_or_value_names_what_there_is():
    with pytest.raises(ValueError, match="did you mean noise"):
        find_axis("sweep_noises.py")
    with pytest.raises(ValueError, match=r"--values '3' is not on axis flow_ratio.*'14'"):
        AXES["flow_ratio"].chosen("laptop", ("1", "3"))


def test_chosen_values_keep_the_order_of_the_axis():
    assert AXES["flow_ratio"].chosen("laptop", ("14", "2")) == ("2", "14")
    assert AXES["flow_ratio"].chosen("paper") == ("1", "2", "4", "7", "14")


def test_an_axis_has_no_values_at_a_scale_whose_samples_it_does_not_suit():
    """On digits `neither` would be the plain recipe, with its rotary positions."""
    assert AXES["pairing"].chosen("laptop", ("neither", "rotary")) == ()
    assert AXES["cfg"].chosen("molecules", ("1.0", "2.0")) == ()
