"""Judgements of structures: alike however they are cut, and by equal packages alone."""

from dataclasses import replace

import numpy as np
import pytest

from unite.config.domains import MoleculesConfig
from unite.domains.atoms.structure import Structure
from unite.evaluation.atoms import rules as rules_module
from unite.evaluation.atoms.rules import POSES, Rules, installed
from unite.evaluation.instruments import Instruments
from unite.metrics.accumulator import Stack
from unite.metrics.errors import MetricError


@pytest.fixture
def molecules(textbook_molecules) -> dict[int, Structure]:
    made = [
        Structure(numbers=np.array(numbers), positions=np.array(places, float))
        for numbers, places in textbook_molecules.values()
    ]
    return dict(enumerate(made))


def test_judgements_do_not_depend_on_how_structures_are_cut(molecules):
    pytest.importorskip("rdkit")
    rules, _ = Rules.of(MoleculesConfig())
    rules = replace(rules.names_alone, geometry=True, stability=True)
    instruments, stack = Instruments(), Stack()
    for index, molecule in molecules.items():
        stack.update(**rules.judge({index: molecule}, instruments))
    whole, parts = rules.judge(molecules, instruments), stack.result()
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert whole["rdkit"].all() and whole["strict"].all()
    assert "CO" not in whole["rdkit_smiles"] and len(set(whole["rdkit_smiles"])) == len(molecules)


def test_what_is_not_installed_is_named_once(monkeypatch):
    def versions(tasks):
        if "rdkit" not in tasks:
            raise ValueError("install the extra")
        return {}

    monkeypatch.setattr(rules_module, "versions", versions)
    assert installed(("posebusters", "rdkit", "smact")) == (("rdkit",), ("install the extra",))


def test_a_worker_with_another_package_is_refused(molecules):
    pytest.importorskip("rdkit")
    rules, _ = Rules.of(MoleculesConfig())
    old = replace(rules, tasks=("rdkit",), packages=(("rdkit", "1999.1"),))
    with pytest.raises(MetricError, match=r"begun with \{'rdkit': '1999.1'\}"):
        old.judge(molecules, Instruments())


def test_a_package_that_does_not_work_ends_the_evaluation(molecules, monkeypatch, tmp_path):
    (tmp_path / "rdkit").mkdir()
    (tmp_path / "rdkit" / "__init__.py").write_text("raise ImportError('libXext.so.6 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(rules_module, "versions", lambda tasks: {})
    with pytest.raises(MetricError, match="rdkit cannot be used here: .*libXext.so.6"):
        Rules(periodic=False, tasks=("rdkit",)).judge(molecules, Instruments())


def test_poses_are_those_of_the_first_structures_wherever_a_chunk_begins(molecules, monkeypatch):
    monkeypatch.setattr(rules_module, "ask", lambda task, asked, *_: [{} for _ in asked])
    monkeypatch.setattr(rules_module, "versions", lambda tasks: {})
    rules = Rules(periodic=False, tasks=(POSES,), poses=1, geometry=False)
    parts = [rules.judge({index: molecules[index]}, Instruments()) for index in molecules]
    assert [len(each["poses"]) for each in parts] == [1] + [0] * (len(parts) - 1)
    assert [each["timeouts"].tolist() for each in parts] == [[0]] * len(parts)
