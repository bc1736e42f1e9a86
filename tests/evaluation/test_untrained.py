"""A recipe in place of a run: the suites that need no training, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.drivers.evaluate import main
from unite.evaluation import untrained
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.results import read_outcomes
from unite.evaluation.untrained import suites_of_recipe
from unite.metrics.weight_entropy import random_state, weight_entropy
from unite.models.unite import UNITE
from unite.storage import Store


def test_a_recipe_is_measured_without_run_data_or_ray(tmp_path, monkeypatch):
    monkeypatch.setattr("unite.drivers.evaluate.session", None)  # no workers
    arguments = EvaluateArguments(recipe="smoke", seed=3)
    assert main(arguments, str(tmp_path)) == 0
    (home,) = (tmp_path / "untrained").iterdir()
    assert home.name.startswith("smoke-") and home.name.endswith("-seed-3")
    entropy, compute = read_outcomes(Store.open(home))
    config = recipe("smoke")

    def build() -> UNITE:
        return UNITE(config.model, build_domain(config.domain), config.flow)

    expected = weight_entropy(random_state(build, seed=3)).part("tokenizer").megabytes()
    found = {row.card.metric: row.card.value for row in entropy.rows}
    assert found == {f"random_{group}_mb": value for group, value in expected.items()}
    counted = {row.card.metric: row.card.value for row in compute.rows}
    assert counted["params_m"] == sum(p.numel() for p in build().parameters()) / 1e6
    assert not {"epochs", "total_flop", "device_hours"} & set(counted), "nothing was trained"
    assert entropy.rows[0].card.weights == "raw" and entropy.rows[0].card.step == 0
    (folder,) = home.glob("entropy-*")
    assert (folder / "entropy.png").is_file()


def test_separate_weights_are_measured_as_two(tmp_path, monkeypatch):
    config = recipe("smoke")
    separate = replace(config, model=replace(config.model, sharing="separate"))
    monkeypatch.setattr(untrained, "recipe", lambda name: separate)
    suites = suites_of_recipe(EvaluateArguments(recipe="smoke", suite=("entropy",)), str(tmp_path))
    (outcome,) = untrained.evaluate_untrained(suites)
    metrics = {row.card.metric for row in outcome.rows}
    assert {"random_total_mb", "denoiser_random_total_mb"} <= metrics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "smok"}, "did you mean smoke"),
        ({"suite": ("generation", "entropy")}, "--suite generation needs a trained run"),
        ({"suite": ("probe",)}, "take --suite entropy compute"),
        ({"run": "mine"}, "--run mine has no effect with --recipe"),
        ({"data": "DIR"}, "--data DIR has no effect with --recipe"),
        ({"num_samples": 100}, "--num-samples 100 has no effect on entropy, compute"),
        ({"suite": ("compute",), "entropy_bins": 9}, "--entropy-bins 9 has no effect on compute"),
        ({"use_gpu": True}, "--use-gpu True has no effect with --recipe"),
    ],
)
def test_what_needs_a_run_is_refused(changes, message, tmp_path):
    arguments = EvaluateArguments(**{"recipe": "smoke", **changes})
    with pytest.raises(ValueError, match=message):
        suites_of_recipe(arguments, str(tmp_path))
