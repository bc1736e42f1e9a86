"""Settings of fidelity metrics, as their cards tell them."""

from types import SimpleNamespace

import numpy as np

from unite.evaluation.images.distances import metric_details
from unite.metrics.fidelity import FidelityPlan


def test_each_metric_tells_what_its_number_depends_on():
    plan = FidelityPlan(total=300, num_features=2, num_classes=3, keep=200, splits=5, seed=7)
    reference = SimpleNamespace(kept_features=np.zeros((40, 2)))
    score = {"splits": 5, "split_seed": 7}
    sides = {"kept": 200, "reference_kept": 40}
    kid = {"subsets": 100, "subset_size": 40, "subset_seed": 2020, **sides}
    expected = {
        **{"fid": {}, "is": score, "is_std": score, "kid": kid, "kid_std": kid},
        **{name: {"neighbours": 3, **sides} for name in ("precision", "recall")},
        **{name: {"neighbours": 5, **sides} for name in ("density", "coverage")},
    }
    assert {name: metric_details(name, plan, reference) for name in expected} == expected


def test_without_features_of_the_reference_none_are_counted():
    plan = FidelityPlan(total=300, num_features=2)
    details = metric_details("kid", plan, SimpleNamespace(kept_features=None))
    assert (details["kept"], details["reference_kept"], details["subset_size"]) == (300, 0, 0)
