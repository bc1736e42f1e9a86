"""Verdicts of chemistry packages on one structure, by task; they run in `worker` processes.

rdkit and pymatgen come with the extra [chem], Open Babel and PoseBusters with [chem-parity].
Nothing of them is imported before a task asks for it. A task maps JSON-able fields to a JSON-able
verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from unite.domains.atoms.structure import Structure
from unite.words import brings

Verdict = dict[str, Any]
EXTRAS = {
    "rdkit": "chem",
    "pymatgen": "chem",
    "openbabel-wheel": "chem-parity",
    "posebusters": "chem-parity",
}
"""Package -> extra of this one that brings it."""
NEEDS = {
    "rdkit": ("rdkit",),
    "adit": ("rdkit", "openbabel-wheel"),
    "posebusters": ("rdkit", "posebusters"),
    "match_molecules": ("pymatgen", "openbabel-wheel"),
    "match_crystals": ("pymatgen",),
    "alike_crystals": ("pymatgen",),
    "sdf": ("rdkit",),
}
"""Task -> packages that it needs."""
ANSWERS = {
    "rdkit": "valid",
    "adit": "valid",
    "posebusters": "mol_pred_loaded",
    "match_molecules": "rmsd",
    "match_crystals": "rms",
    "alike_crystals": "alike",
    "sdf": "block",
}
"""Task -> entry of its verdict that says of PROBE whether the task works."""
POSE_COLUMNS = (
    "mol_pred_loaded",
    "sanitization",
    "inchi_convertible",
    "all_atoms_connected",
    "bond_lengths",
    "bond_angles",
    "internal_steric_clash",
    "aromatic_ring_flatness",
    "double_bond_flatness",
    "internal_energy",
)
"""The ten columns of PoseBusters that the paper reports; later releases add others."""
MATCHER = {"ltol": 0.3, "stol": 0.5, "angle_tol": 10}
"""Arguments of pymatgen's StructureMatcher, as CDVAE and ADiT have them."""


_WATER: dict[str, Any] = {
    "numbers": [8, 1, 1],
    "positions": [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]],
    "frac": [[0.0, 0.0, 0.0], [0.16, 0.0, 0.0], [0.96, 0.155, 0.0]],
    "lengths": [6.0, 6.0, 6.0],
    "angles": [90.0, 90.0, 90.0],
}
PROBE = {**_WATER, "true": _WATER, "tolerance": 0.25, "name": "water"}
"""Fields of a structure that every task has a good verdict on: water, alone and in a cell, beside
itself."""


def versions(tasks: tuple[str, ...]) -> dict[str, str]:
    """Package -> installed version, for the packages that the tasks need.

    ValueError names what is missing and the extra that brings it.
    """
    found, missing = {}, []
    for package in dict.fromkeys(each for task in tasks for each in NEEDS[task]):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        extras = (EXTRAS[each] for each in missing)
        raise ValueError(f"{', '.join(missing)} is not installed: {brings(*extras)}")
    return found


def rdkit(fields: Mapping[str, Any]) -> Verdict:
    """`valid` with `reason`, `strict` and `smiles`: bonds by distance, orders by RDKit.

    Strict asks for one fragment, no radical and no charge beyond one: an atom soup passes as ions.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    molecule = _bonded(structure_of(fields), fields["tolerance"])
    try:
        rdDetermineBonds.DetermineBondOrders(molecule, charge=0)
        Chem.SanitizeMol(molecule)
        smiles = _largest_smiles(molecule)
    except Exception as error:  # RDKit raises several kinds for what is no molecule.
        return {"valid": False, "strict": False, "smiles": "", "reason": _first_line(error)}
    reason = _not_strict(molecule)
    return {"valid": True, "strict": not reason, "smiles": smiles, "reason": reason}


def adit(fields: Mapping[str, Any]) -> Verdict:
    """`valid` with `reason` and `smiles` by ADiT's route: PDB through Open Babel, read by RDKit."""
    from openbabel import openbabel
    from rdkit import Chem

    openbabel.obErrorLog.StopLogging()
    conversion, molecule = openbabel.OBConversion(), openbabel.OBMol()
    conversion.SetInAndOutFormats("xyz", "pdb")
    conversion.ReadString(molecule, structure_of(fields).to_xyz())
    try:
        parsed = Chem.MolFromPDBBlock(conversion.WriteString(molecule), removeHs=False)
        if parsed is None:
            raise ValueError("RDKit does not accept the molecule")
        return {"valid": True, "smiles": _largest_smiles(parsed), "reason": ""}
    except Exception as error:  # as above
        return {"valid": False, "smiles": "", "reason": _first_line(error)}


def posebusters(fields: Mapping[str, Any]) -> Verdict:
    """PoseBusters' ten columns, True where passed; all False where the molecule has no bonds."""
    from posebusters import PoseBusters
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    molecule = _bonded(structure_of(fields), fields["tolerance"])
    try:
        rdDetermineBonds.DetermineBondOrders(molecule, charge=0)
        Chem.SanitizeMol(molecule)
        row = PoseBusters(config="mol").bust([molecule], None, None).iloc[0].to_dict()
    except Exception:  # as above
        row = {}
    return {name: bool(row.get(name) is True or row.get(name) == 1) for name in POSE_COLUMNS}


def match_molecules(fields: Mapping[str, Any]) -> Verdict:
    """`rmsd` in A of pymatgen's MoleculeMatcher through Open Babel and InChI; None = no match."""
    from pymatgen.analysis.molecule_matcher import MoleculeMatcher
    from pymatgen.core import Molecule

    pair = [
        Molecule(each.numbers.tolist(), each.positions)
        for each in (structure_of(fields), structure_of(fields["true"]))
    ]
    rmsd = float(MoleculeMatcher(tolerance=0.01).get_rmsd(*pair))
    return {"rmsd": rmsd if np.isfinite(rmsd) else None}


def match_crystals(fields: Mapping[str, Any]) -> Verdict:
    """`rms` of pymatgen's StructureMatcher over (V / N)^(1/3); None = no match."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    found = StructureMatcher(**MATCHER).get_rms_dist(*_crystals(fields))
    return {"rms": None if found is None else float(found[0])}


def alike_crystals(fields: Mapping[str, Any]) -> Verdict:
    """`alike`: True if StructureMatcher would put the second crystal into the first one's group."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return {"alike": bool(StructureMatcher(**MATCHER).fit(*_crystals(fields)))}


def sdf(fields: Mapping[str, Any]) -> Verdict:
    """`block`, the structure's record in an SDF file named by the field `name`.

    Bonds are the distance rule's with RDKit's orders, single ones where it finds none; those of
    aromatic rings are single and double, as the format's aromatic ones are for queries alone.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    molecule = _bonded(structure_of(fields), fields["tolerance"])
    try:
        rdDetermineBonds.DetermineBondOrders(molecule, charge=0)
        Chem.Kekulize(molecule, clearAromaticFlags=True)
    except Exception:  # as above
        molecule = _bonded(structure_of(fields), fields["tolerance"])
    molecule.SetProp("_Name", fields["name"])
    return {"block": Chem.MolToMolBlock(molecule, kekulize=False) + "$$$$\n"}


TASKS: dict[str, Callable[[Mapping[str, Any]], Verdict]] = {
    "rdkit": rdkit,
    "adit": adit,
    "posebusters": posebusters,
    "match_molecules": match_molecules,
    "match_crystals": match_crystals,
    "alike_crystals": alike_crystals,
    "sdf": sdf,
}


def fields_of(structure: Structure, **more: Any) -> dict[str, Any]:
    """A structure as JSON-able fields, and further ones."""
    names = ("numbers", "positions", "frac", "lengths", "angles")
    arrays = {name: getattr(structure, name) for name in names}
    kept = {name: np.asarray(v).tolist() for name, v in arrays.items() if v is not None}
    return {**kept, **more}


def structure_of(fields: Mapping[str, Any]) -> Structure:
    """The structure that `fields_of` took apart."""
    names = ("frac", "lengths", "angles")
    cell = {name: np.array(fields[name], float) for name in names if name in fields}
    numbers = np.array(fields["numbers"], np.int64)
    return Structure(numbers=numbers, positions=np.array(fields["positions"], float), **cell)


def _crystals(fields: Mapping[str, Any]) -> list[Any]:
    """A structure and the one beside it as pymatgen's."""
    from pymatgen.core import Lattice
    from pymatgen.core import Structure as Crystal

    pair = []
    for each in (fields, fields["true"]):
        lattice = Lattice.from_parameters(*each["lengths"], *each["angles"])
        pair.append(Crystal(lattice, each["numbers"], each["frac"]))
    return pair


def _bonded(structure: Structure, tolerance: float) -> Any:
    """An RDKit molecule with single bonds by the distance rule, and its conformer."""
    from rdkit import Chem

    molecule = Chem.RWMol()
    for number in structure.numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    pairs = np.argwhere(np.triu(structure.bonds(tolerance))).tolist()
    for first, second in pairs:
        molecule.AddBond(first, second, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(len(structure.numbers))
    for index, place in enumerate(structure.positions.tolist()):
        conformer.SetAtomPosition(index, place)
    molecule.AddConformer(conformer)
    return molecule


def _largest_smiles(molecule: Any) -> str:
    """Canonical isomeric SMILES of the largest fragment."""
    from rdkit import Chem

    fragments = Chem.GetMolFrags(molecule, asMols=True)
    return Chem.MolToSmiles(max(fragments, key=lambda each: each.GetNumAtoms()))


def _not_strict(molecule: Any) -> str:
    """Reason why a valid molecule is not strictly so; empty if it is."""
    from rdkit import Chem

    fragments = len(Chem.GetMolFrags(molecule))
    if fragments > 1:
        return f"{fragments} fragments"
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return "a radical"
    if any(abs(atom.GetFormalCharge()) > 1 for atom in molecule.GetAtoms()):
        return "an atom with a charge beyond one"
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
