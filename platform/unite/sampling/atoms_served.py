"""Served atoms: numbers of atoms in and structures out, or structures in and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite.config.domains import AtomsConfig, JointConfig
from unite.domains.atoms.elements import SYMBOLS
from unite.domains.base import BadRows, Domain
from unite.models.unite import UNITE
from unite.sampling.seeds import Conditions, conditions
from unite.sampling.served import Served, is_whole

SIZE = "size"


class ServedStructures(Served):
    """Structures of elements that the model knows."""

    def refused(self, fields: Mapping[str, np.ndarray], model: UNITE) -> BadRows:
        """Rows with an element that no training sample had; none of a model that does not hold its
        training set's elements."""
        elements = model.statistics.tensors.get("elements")
        if elements is None:
            return []
        numbers_BN, seen_E = fields["numbers"], elements.cpu().numpy()
        known = " ".join(SYMBOLS[number] for number in np.flatnonzero(seen_E).tolist())
        strange_BN = (numbers_BN > 0) & ~seen_E[numbers_BN]
        firsts = {
            row: SYMBOLS[numbers_BN[row][strange_BN[row]][0]]
            for row in np.flatnonzero(strange_BN.any(1)).tolist()
        }
        return [(row, f"unknown_element: {each}; known: {known}") for row, each in firsts.items()]


class ServedAtoms(ServedStructures):
    """Columns `size`, or those of the shards; a column of XYZ or CIF texts comes out."""

    condition = SIZE

    def __init__(self, config: AtomsConfig) -> None:
        cell = ("frac", "lengths", "angles")
        self.stored = ("numbers", *(cell if config.periodic else ("positions",)))
        self.inputs = {SIZE: "long", **dict.fromkeys(self.stored, "binary")}
        self.text = "cif" if config.periodic else "xyz"
        self.outputs = {self.text: "string"}
        listed = ", ".join(map(repr, self.stored))
        self.question = (
            f"give the column {SIZE!r} (atoms of each sample to be drawn, 0 = as often as the "
            f"training set has them) or {listed} (arrays or little-endian bytes of structures)"
        )
        noun = config.kind
        self.about = f"It draws {noun} of at most {config.max_atoms} atoms, and turns such\n"
        self.about += f"{noun} into latents and back."
        self.example = (
            f"Registered in MLflow, a table goes in and a column `{self.text}` of texts comes out. "
            f"It has the column\n`{SIZE}` (atoms of each sample, 0 = drawn) or the columns of the "
            f"shards ({listed}).\n\n"
            "```python\n"
            'model = mlflow.pyfunc.load_model("models:/NAME@champion")\n'
            f'model.predict({{"{SIZE}": [0, 0, 9]}}, params={{"seed": 1}})["{self.text}"]\n```'
        )
        self.limits = f"It knows {noun} of its training data's kind and sizes, and nothing else."

    def conditions(self, cells: Sequence[Any], model: UNITE, seeds_B: Tensor) -> Conditions:
        """One size a row; rows of 0 take the drawn one."""
        for row, size in enumerate(cells):
            if not is_whole(size) or size < 0:
                raise ValueError(f"{SIZE} {size!r} in row {row}: a number of atoms, or 0")
        wanted_B = torch.tensor([int(size) for size in cells])
        if wanted_B.all():
            return conditions(model, seeds_B, sizes_B=wanted_B)
        drawn_BK = conditions(model, seeds_B).mask_BK
        assert drawn_BK is not None
        sizes_B = torch.where(wanted_B > 0, wanted_B, drawn_BK.sum(1).cpu())
        return conditions(model, seeds_B, sizes_B=sizes_B)

    def result(
        self, domain: Domain, batches: Sequence[tuple[Any, Tensor | None]]
    ) -> dict[str, list[str]]:
        """XYZ or CIF text of each structure."""
        return {self.text: [text for _, text in _texts(domain, batches)]}


class ServedJoint(ServedStructures):
    """Columns `label`, or those of the shards of both kinds; kinds and texts come out."""

    condition = "label"
    stored = ("numbers", "positions", "frac", "lengths", "angles")
    inputs = {condition: "long", **dict.fromkeys(stored, "binary")}
    outputs = {"kind": "string", "text": "string"}

    def __init__(self, config: JointConfig) -> None:
        listed = ", ".join(map(repr, self.stored))
        self.question = (
            "give the column 'label' (0 = a molecule is drawn, 1 = a crystal) or the columns "
            f"{listed} (little-endian bytes of structures; None where the kind has no such)"
        )
        self.about = f"It draws molecules and crystals of at most {config.max_atoms} atoms, and\n"
        self.about += "turns such structures into latents and back."
        self.example = (
            "Registered in MLflow, a table goes in, and the columns `kind` (xyz or cif) and `text` "
            "come out. It has\nthe column `label` (0 = molecule, 1 = crystal) or the columns of "
            f"the shards ({listed}).\n\n"
            "```python\n"
            'model = mlflow.pyfunc.load_model("models:/NAME@champion")\n'
            'model.predict({"label": [0, 0, 1]}, params={"seed": 1})["text"]\n```'
        )
        self.limits = "It knows structures of its training data's kinds and sizes, nothing else."

    def conditions(self, cells: Sequence[Any], model: UNITE, seeds_B: Tensor) -> Conditions:
        """One class a row; sizes are drawn."""
        for row, label in enumerate(cells):
            if not is_whole(label) or label not in (0, 1):
                raise ValueError(f"label {label!r} in row {row}: 0 = a molecule, 1 = a crystal")
        return conditions(model, seeds_B, labels_B=[int(label) for label in cells])

    def result(
        self, domain: Domain, batches: Sequence[tuple[Any, Tensor | None]]
    ) -> dict[str, list[str]]:
        """XYZ of molecules and CIF of crystals."""
        found = _texts(domain, batches)
        return {"kind": [kind for kind, _ in found], "text": [text for _, text in found]}


def _texts(domain: Domain, batches: Sequence[tuple[Any, Tensor | None]]) -> list[tuple[str, str]]:
    """Form and text of each structure: CIF of what has a cell, else XYZ."""
    read: Any = domain
    found = [each for atoms, mask_BK in batches for each in read.structures(atoms, mask_BK)]
    return [("xyz", s.to_xyz()) if s.frac is None else ("cif", s.to_cif()) for s in found]
