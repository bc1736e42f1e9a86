import pytest

from unite.evaluation.arguments import SUITES, EvaluateArguments, check, chosen_suites
from unite.evaluation.plan import MAKERS


def test_every_suite_has_a_maker():
    assert tuple(MAKERS) == SUITES


def test_suites_come_in_their_own_order():
    assert chosen_suites(()) == SUITES
    assert chosen_suites(("probe", "generation")) == ("generation", "probe")
    assert chosen_suites(("entropy,compute",)) == ("entropy", "compute")


def test_an_unknown_suite_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="'generations' is unknown; did you mean generation"):
        chosen_suites(("generations",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cfg_sweep": True, "cfg_adaptive": True}, "exclude each other"),
        ({"cfg_adaptive": True, "cfg_scale": 2.0}, "no effect with a sweep"),
        ({"cfg_sweep": True, "suite": ("entropy",)}, "belong to the suite generation"),
        ({"num_samples": -1}, "--num-samples must not be negative"),
        ({"analysis_images": 0}, "--analysis-images must be at least 1"),
        ({"entropy_bins": 1}, "--entropy-bins must be at least 2"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(EvaluateArguments(**changes))
