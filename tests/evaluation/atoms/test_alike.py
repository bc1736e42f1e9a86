"""Groups of crystals that are alike: in the order of the set, whatever the number of chunks."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.domains import CrystalsConfig
from unite.domains import build_domain
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.chemistry import versions
from unite.evaluation.atoms import alike as module
from unite.evaluation.atoms.alike import COMPARE, AlikeCrystals, by_formula, grouped
from unite.evaluation.chunks import partition, write_chunk
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.metrics.accumulator import to_arrays
from unite.metrics.errors import MetricError


def crystal(numbers: list[int], length: float = 4.0) -> Structure:
    frac = np.arange(3 * len(numbers)).reshape(-1, 3) / (3.0 * len(numbers))
    cell = {"frac": frac, "lengths": np.full(3, length), "angles": np.full(3, 90.0)}
    return Structure(numbers=np.array(numbers), positions=length * frac, **cell)


def near(one: Structure, others) -> bool:
    """A rule that is no equivalence: lengths at most 1 A apart."""
    return any(abs(one.lengths[0] - other.lengths[0]) <= 1 for other in others)


def test_cells_of_one_reduced_formula_are_together():
    found = by_formula([crystal([11, 17]), crystal([17, 17, 11, 11]), crystal([11, 17, 17])])
    assert [len(each) for each in found.values()] == [2, 1]


def test_a_group_is_those_that_its_first_one_fits():
    """5 fits 4, whose group it joins; 6 fits 5, but that is no first one: a group of its own."""
    crystals = [crystal([14], length) for length in (4.0, 5.0, 6.0, 4.5)]
    columns = grouped(crystals, [[crystal([14], 7.0)], [crystal([14], 4.0)]], near)
    assert columns["first"].tolist() == [True, False, True, False]
    assert columns["trained"].tolist() == [False, False, True, False]
    assert columns["listed"].tolist() == [True, False, True, False]


@pytest.fixture
def task(tmp_path, textbook_crystals) -> AlikeCrystals:
    """Twice the textbook's crystals, two of which are known and one of those by another cell."""
    names = ("frac", "lengths", "angles")

    def write(split: str, cells) -> Dataset:
        table = {"numbers": [bytes(cell["numbers"]) for cell in cells]}
        for name in names:
            table[name] = [np.array(cell[name], "<f8").tobytes() for cell in cells]
        pq.write_table(pa.table(table), tmp_path / f"{split}-0.parquet")
        return Dataset.open(str(tmp_path), split, build_domain(CrystalsConfig()).columns)

    true = [cell for name, cell in textbook_crystals.items() if name != "Si primitive"]
    known = [textbook_crystals["Si primitive"], textbook_crystals["rutile"]]
    return AlikeCrystals(
        total=2 * len(true),
        home=str(tmp_path),
        source=write("test", 2 * true),
        known=(write("train", known[:1]), write("eval", known)),
        domain=CrystalsConfig(),
        packages=(),
    )


def counts_of(task: AlikeCrystals, monkeypatch, count: int) -> dict[str, int]:
    chunks = partition(task.suite, task.total, count)
    monkeypatch.setattr(AlikeCrystals, "chunks", lambda self: chunks)
    instruments = Instruments()
    for chunk in chunks:
        totals = task.totals("")
        task.count(totals, instruments, chunk)
        write_chunk(task.folder, chunk, to_arrays(totals))
    return task.counts()


def same_volume(task, structures, tolerance, instruments, trues):
    """A stand-in for StructureMatcher: the volume per atom."""
    spread = [each.lengths.prod() / len(each.numbers) for each in (*structures, *trues)]
    return [{"alike": abs(spread[0] - spread[1]) < 0.1}]


def test_counts_do_not_depend_on_the_chunks(task, monkeypatch):
    monkeypatch.setattr(module, "ask", same_volume)
    found = [counts_of(task, monkeypatch, count) for count in (1, 3, 12)]
    assert found[0] == found[1] == found[2]
    assert found[0] == {"valid": 12, "groups": 6, "novel": 6, "novel_all": 5}


@pytest.mark.slow
def test_structure_matcher_finds_what_is_known_in_another_cell(task, monkeypatch):
    pytest.importorskip("pymatgen")
    task = replace(task, packages=tuple(versions((COMPARE,)).items()))
    found = counts_of(task, monkeypatch, 2)
    assert found == {"valid": 12, "groups": 6, "novel": 5, "novel_all": 4}


def test_another_version_of_the_package_is_refused(task):
    pytest.importorskip("pymatgen")
    old = replace(task, packages=(("pymatgen", "2000.1"),))
    (chunk,) = partition(task.suite, task.total, 1)
    with pytest.raises(MetricError, match="begun with"):
        old.count(old.totals(""), Instruments(), chunk)
