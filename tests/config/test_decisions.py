"""Each decision states the value that its variants have, why, and where METHOD says more."""

from __future__ import annotations

import dataclasses
import re

import pytest

from unite.config.decisions import ATOMS, CELLS, DECISIONS, decisions
from unite.config.finetune import FinetuneRunConfig
from unite.config.finetune_decisions import FINETUNE_DECISIONS
from unite.config.recipes import recipe
from unite.config.serialise import flatten


@pytest.mark.parametrize("field", DECISIONS)
def test_the_reason_begins_with_the_value_that_the_variants_have(field):
    decision = DECISIONS[field]
    assert re.search(r"METHOD \d", decision.why)
    for variant in decision.variants:
        value = flatten(recipe(f"unite-b-{variant}"))[field]
        assert decision.why.startswith(f"{value:g}" if isinstance(value, float) else str(value))


@pytest.mark.parametrize("field", ATOMS)
def test_reasons_of_atoms_begin_with_the_value(field):
    value = flatten(recipe("mp20" if field == CELLS else "qm9"))[field]
    if field != "flow.warmup_fraction":  # told in steps
        assert ATOMS[field].startswith(f"{value:g}" if isinstance(value, float) else str(value))
    assert re.search(r"METHOD \d", ATOMS[field])
    assert decisions("mp20") == decisions("qm9") | {CELLS: ATOMS[CELLS]} == ATOMS


def test_a_recipe_rests_on_the_decisions_of_its_variant():
    assert decisions("unite-b") == decisions("unite-b-checkpoints")
    assert {"training.epochs", "optim.warmup_epochs"} <= set(decisions("unite-xl"))
    assert "model.init" in decisions("unite-b-paper")
    assert "training.epochs" not in decisions("unite-b-released"), "600 stands in the file"
    assert decisions("digits") == {}
    assert set(decisions("digits-checkpoints")) == {"reconstruction_noise.form"}


def test_every_setting_of_the_fine_tuning_is_a_decision_with_its_default():
    config = FinetuneRunConfig()
    groups = ("finetune", "adversarial", "discriminator")
    fields = {
        f"{group}.{item.name}"
        for group in groups
        for item in dataclasses.fields(vars(config)[group])
    }
    assert fields == set(FINETUNE_DECISIONS)
