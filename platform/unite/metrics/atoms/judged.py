"""Numbers of judged molecules and crystals, each with its standard error (METHOD 7).

Judgements are columns: one value for each structure, or as many as the column of OWNERS says.
Shapes: S structures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unite.metrics.atoms.distributions import total_variation, w1_bonds, wasserstein_1
from unite.metrics.atoms.summary import percentage

Columns = Mapping[str, np.ndarray]
Number = tuple[float, float, int]
"""Value, standard error, structures that it is of."""
OWNERS = {
    "numbers": "atoms",
    "bond_kinds": "bonds",
    "bond_lengths": "bonds",
    "bond_angles": "angles",
    "ring_sizes": "rings",
}
"""Column of several values for each structure -> column of their number."""
GROUPS = 10
"""Groups of the jackknife."""


def chosen(judged: Columns, keep_S: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of some structures."""
    kept = {}
    for name, values in judged.items():
        owner = OWNERS.get(name)
        rows = keep_S if owner is None else np.repeat(keep_S, judged[owner])
        kept[name] = values[rows[: len(values)]]
    return kept


def jackknife(number: Callable[[Columns], float], judged: Columns, num: int) -> Number:
    """A number with its standard error from leaving out each tenth of the structures in turn."""
    value, groups = number(judged), min(GROUPS, num)
    index_S = np.arange(num)
    parts = [number(chosen(judged, index_S % groups != each)) for each in range(groups)]
    error = math.sqrt((groups - 1) * np.var(parts)) if groups > 1 else math.nan
    return value, error, num


def molecule_rates(judged: Columns, poses: Sequence[str] = ()) -> dict[str, Number]:
    """Validity by each backend that judged, stability by EDM's tables, PoseBusters' columns."""
    found: dict[str, Number] = {}
    names = {"adit": "valid_pct", "rdkit": "valid_rdkit_pct", "strict": "valid_strict_pct"}
    for column, name in names.items():
        if column in judged:
            found[name] = _rate(judged[column])
    if "stable" in judged:
        found["stable_atoms_pct"] = jackknife(
            lambda part: 100 * part["stable"].sum() / part["atoms"].sum(),
            {name: judged[name] for name in ("stable", "atoms")},
            len(judged["atoms"]),
        )
        found["stable_molecules_pct"] = _rate(judged["stable"] == judged["atoms"])
    if "poses" in judged and len(judged["poses"]):
        passed = judged["poses"]
        valid = judged["rdkit"][: len(passed)]
        found["pb_all_pct"] = _rate(valid & passed.all(1))
        found |= {f"pb_{name}_pct": _rate(passed[valid, i]) for i, name in enumerate(poses)}
    return found


def kind_numbers(columns: Columns) -> dict[str, Number]:
    """Share of `right`, samples of a joint model that are decoded as the kind that was asked for;
    nothing of a model of one kind."""
    return {"kind_pct": _rate(columns["right"])} if "right" in columns else {}


def set_numbers(names: Sequence[str], train: set[str], every: set[str]) -> dict[str, Number]:
    """Uniqueness and novelty over valid molecules by their canonical names, as ADiT divides.

    Distinct names, those not in train, and those in no split, each over valid molecules.
    """
    distinct, valid = set(names), len(names)
    counts = {
        "unique_pct": len(distinct),
        "novel_pct": len(distinct - train),
        "novel_all_pct": len(distinct - every),
    }
    return {name: (*percentage(hits, valid), valid) for name, hits in counts.items()}


def alike_numbers(counts: Mapping[str, int]) -> dict[str, Number]:
    """Uniqueness and novelty of crystals from the counts of `evaluation.atoms.alike`.

    Groups over valid ones; groups that no training crystal, or none of any split, fits over all
    groups: ADiT divides by them for crystals, and by the valid ones for molecules.
    """
    valid, groups = counts["valid"], counts["groups"]
    return {
        "unique_pct": (*percentage(groups, valid), valid),
        "novel_pct": (*percentage(counts["novel"], groups), groups),
        "novel_all_pct": (*percentage(counts["novel_all"], groups), groups),
    }


def molecule_distances(judged: Columns, data: Columns) -> dict[str, Number]:
    """Distances of bonds, angles, elements and rings to those of the data."""
    kinds = by_kind(data)
    elements, rings = Counter(data["numbers"].tolist()), Counter(data["ring_sizes"].tolist())
    functions: dict[str, Callable[[Columns], float]] = {
        "w1_bonds": lambda part: w1_bonds(by_kind(part), kinds),
        "w1_angles": lambda part: wasserstein_1(part["bond_angles"], data["bond_angles"]),
        "tv_elements": lambda part: total_variation(Counter(part["numbers"].tolist()), elements),
        "tv_rings": lambda part: total_variation(Counter(part["ring_sizes"].tolist()), rings),
    }
    shape = {name: judged[name] for name in (*OWNERS, *set(OWNERS.values()))}
    num = len(judged["atoms"])
    return {name: jackknife(function, shape, num) for name, function in functions.items()}


def crystal_rates(judged: Columns) -> dict[str, Number]:
    """Validity of structure, of composition and of both."""
    struct, comp = judged["struct"], judged["comp"]
    rates = {"struct_pct": struct, "comp_pct": comp, "valid_pct": struct & comp}
    return {name: _rate(hits) for name, hits in rates.items()}


def crystal_distances(judged: Columns, data: Columns) -> dict[str, Number]:
    """Distances of densities, of structurally valid crystals, and of numbers of elements."""
    columns = {"w1_density": "density", "w1_num_elements": "num_elements"}
    found = {}
    for name, column in columns.items():
        values, others = (each[column][np.isfinite(each[column])] for each in (judged, data))
        found[name] = jackknife(
            lambda part, others=others: wasserstein_1(part["x"], others),
            {"x": values},
            len(values),
        )
    return found


def halves(judged: Columns, num: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two halves of structures: every other one."""
    even_S = np.arange(num) % 2 == 0
    return chosen(judged, even_S), chosen(judged, ~even_S)


def by_kind(judged: Columns) -> dict[str, np.ndarray]:
    """Lengths of bonds by their kind."""
    kinds = judged["bond_kinds"]
    return {str(kind): judged["bond_lengths"][kinds == kind] for kind in np.unique(kinds)}


def _rate(hits_S: np.ndarray) -> Number:
    return (*percentage(int(hits_S.sum()), len(hits_S)), len(hits_S))
