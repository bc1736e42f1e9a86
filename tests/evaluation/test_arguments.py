import pytest

from unite.evaluation.arguments import (
    LEAST_BATCH,
    EvaluateArguments,
    FitArguments,
    ReferenceArguments,
    check,
    check_data,
    chosen_suites,
)
from unite.evaluation.instruments import LEAST_ROWS
from unite.evaluation.suites import all_suites


def test_suites_come_in_their_own_order():
    assert chosen_suites(()) == tuple(all_suites())
    assert chosen_suites(("probe", "generation")) == ("generation", "probe")
    assert chosen_suites(("entropy,compute",)) == ("entropy", "compute")


def test_the_smallest_batch_is_the_one_that_is_computed():
    assert LEAST_BATCH == 2 * LEAST_ROWS
    check(EvaluateArguments(batch_size=LEAST_BATCH))


def test_an_unknown_suite_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="'generations' is unknown; did you mean generation. S"):
        chosen_suites(("generations",))
    with pytest.raises(ValueError, match="'xyz' is unknown. Suites: generation,"):
        chosen_suites(("xyz",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cfg_sweep": True, "cfg_adaptive": True}, "exclude each other"),
        ({"cfg_adaptive": True, "cfg_scale": 2.0}, "no effect with a sweep"),
        ({"cfg_sweep": True, "suite": ("entropy",)}, "--cfg-sweep True has no .* to generation"),
        ({"reference": "r.npz", "suite": ("probe",)}, "--reference r.npz has no effect on probe"),
        ({"num_samples": 50, "suite": ("entropy", "probe")}, "no effect on entropy, probe"),
        ({"labels": "uniform", "suite": ("reconstruction",)}, "--labels uniform has no effect"),
        ({"solver": "heun", "suite": ("compute",)}, "--solver heun .* belongs to generation"),
        ({"extractor": ("pixels",), "suite": ("probe",)}, "to generation and reconstruction"),
        ({"num_images": 5, "suite": ("entropy",)}, "belongs to reconstruction and probe"),
        ({"analysis_images": 5, "suite": ("entropy",)}, "--analysis-images 5 has no effect"),
        ({"probe_images": 5, "suite": ("entropy",)}, "--probe-images 5 has no effect on entropy"),
        ({"entropy_bins": 5, "suite": ("probe",)}, "--entropy-bins 5 has no effect on probe"),
        ({"num_workers": 0, "wait_s": 5.0}, "--wait-s 5.0 has no effect with --num-workers 0"),
        ({"num_samples": -1}, "--num-samples must not be negative"),
        ({"num_workers": -1}, "--num-workers must not be negative"),
        ({"batch_size": -1}, "--batch-size must not be negative"),
        ({"batch_size": LEAST_BATCH - 1}, "--batch-size 31 must be at least 32"),
        ({"wait_s": -1.0}, "--wait-s must not be negative"),
        ({"analysis_images": 0}, "--analysis-images must be at least 1"),
        ({"entropy_bins": 1}, "--entropy-bins must be at least 2"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(EvaluateArguments(**changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (FitArguments(data="d", weights="w"), "--weights w has no effect on fitting"),
        (FitArguments(data="d", images=-1), "--images must not be negative"),
        (ReferenceArguments(data="d", num_workers=0, wait_s=1.0), "--wait-s 1.0 has no effect"),
        (ReferenceArguments(data="d", size=-8), "--size must not be negative"),
        (ReferenceArguments(data="d", channels=2), "--channels 2 must be 3"),
    ],
)
def test_what_no_data_set_can_have_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_data(arguments)
