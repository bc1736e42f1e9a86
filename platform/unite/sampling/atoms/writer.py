"""The writer of drawn molecules and crystals.

OUT/samples.xyz      all molecules, one frame each
OUT/samples.cif      all crystals; a model of both kinds writes both files
OUT/samples.sdf      molecules with bonds, where rdkit is installed
OUT/samples.parquet  raw arrays, seeds and sizes
OUT/page.html        a sortable table of pictures, formulas and verdicts
OUT/grid.png         pictures of the first hundred
OUT/samples.json     the request, by which an interrupted call is recognised
OUT/part-N.parquet   what is drawn so far, while the call goes on
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite.config.domains import AtomsConfig, JointConfig
from unite.domains import build_domain
from unite.domains.atoms.domain import AtomsDomain
from unite.domains.atoms.picture import picture
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.chemistry import fields_of, versions
from unite.domains.atoms.verdicts.isolated import Worker
from unite.domains.atoms.verdicts.native import native_verdict
from unite.sampling.atoms.files import cif, parquet, read_parquet, xyz
from unite.sampling.atoms.page import page
from unite.sampling.generator import Samples
from unite.sampling.grid import image_grid, save_png
from unite.sampling.sample_folder import claim
from unite.sampling.seeds import sample_seeds
from unite.storage import Store
from unite.words import count

NO_SDF = "; no samples.sdf"
GRID_SAMPLES = 100
GRID_COLUMNS = 10
ARRAYS = "samples.parquet"
PART = re.compile(r"part-\d+\.parquet")
FILES = re.compile(rf"{PART.pattern}|samples\.(xyz|cif|sdf|parquet)|page\.html")


class AtomsWriter:
    """Owner of one call's files of atoms."""

    def __init__(self, config: AtomsConfig | JointConfig, store: Store) -> None:
        domain = build_domain(config)
        assert isinstance(domain, AtomsDomain)
        self.domain, self.store, self.left = domain, store, (store,)
        self.structures: dict[int, Structure] = {}
        self.seed = 0
        store.check_writable()

    def claim(self, request: Mapping[str, Any], *, replace: bool) -> set[int]:
        """Indices of the samples in the parts, or in the finished table."""
        self.seed = int(request["seed"])
        for name in claim(self.store, request, replace=replace, files=FILES):
            if name == ARRAYS or PART.fullmatch(name):
                self.structures |= read_parquet(self.store.read(name))
        return set(self.structures)

    def write(self, indices: Sequence[int], samples: Samples) -> None:
        """One part a batch; ValueError names a sample that is not finite."""
        for index, finite in zip(
            indices, self.domain.finite(samples.reconstruction).tolist(), strict=True
        ):
            if not finite:
                raise ValueError(f"sample {index} is not finite: has training diverged?")
        drawn = self.domain.structures(samples.reconstruction, samples.mask_BK)
        new = dict(zip(indices, drawn, strict=True))
        self.store.write(f"part-{min(indices)}.parquet", parquet(new, self._seeds(new)))
        self.structures |= new

    def finish(self, labels: Tensor) -> str:
        """All files of all samples, then the parts go; returns the files in words."""
        ordered = {index: self.structures[index] for index in sorted(self.structures)}
        structures, seeds = list(ordered.values()), self._seeds(ordered)
        molecules = {i: each for i, each in ordered.items() if each.frac is None}
        crystals = {i: each for i, each in ordered.items() if each.frac is not None}
        kept, missing = [], ""
        if molecules:
            kept.append("samples.xyz")
            self.store.write(kept[-1], xyz(molecules, self._seeds(molecules)).encode())
            missing = self._write_sdf(molecules)
            kept += [] if missing.startswith(NO_SDF) else ["samples.sdf"]
        if crystals:
            kept.append("samples.cif")
            self.store.write(kept[-1], cif(crystals).encode())
        self.store.write(ARRAYS, parquet(ordered, seeds))
        self.store.write("page.html", self._page(structures, seeds).encode())
        few = [picture(each, self.domain.tolerance_of(each)) for each in structures[:GRID_SAMPLES]]
        columns = min(GRID_COLUMNS, len(few))
        save_png(self.store, "grid.png", image_grid(np.stack(few), columns, scale=1))
        for name in self.store.list():
            if PART.fullmatch(name):
                self.store.delete(name)
        self.store.tidy()
        files = ", ".join([*kept, ARRAYS])
        return f"{files}, page.html and grid.png in {self.store}{missing}{self._others(labels)}"

    def _others(self, labels: Tensor) -> str:
        """Words on samples of a model of both kinds that were decoded as the other kind."""
        if not self.domain.num_classes:
            return ""
        asked = enumerate(labels.tolist())
        others = sum((self.structures[i].frac is not None) != bool(label) for i, label in asked)
        return f"; {count(others, 'sample')} came out as the other kind" if others else ""

    def _write_sdf(self, molecules: Mapping[int, Structure]) -> str:
        """The SDF file; words on what is missing where there is none."""
        try:
            versions(("sdf",))
            worker = Worker.of("sdf")
        except ValueError as error:
            return f"{NO_SDF}: {error}"
        blocks = []
        for index, each in molecules.items():
            named = {"tolerance": self.domain.tolerance_of(each), "name": f"{index} {each.formula}"}
            blocks.append(worker.ask("sdf", fields_of(each, **named)).get("block", ""))
        worker.close()
        self.store.write("samples.sdf", "".join(blocks).encode())
        without = blocks.count("")
        return f"; {count(without, 'sample')} had no SDF record" if without else ""

    def _page(self, structures: Sequence[Structure], seeds: Sequence[int]) -> str:
        found = [native_verdict(each, self.domain.tolerance_of(each)) for each in structures]
        good = sum(each.good for each in found)
        words = {"stable" if each.frac is None else "valid" for each in structures}
        word = " or ".join(sorted(words))
        return page(
            structures,
            seeds,
            found,
            title=f"Samples: {self.domain.noun}s",
            lead=f"{count(len(found), self.domain.noun)}, {good} {word} by rules that need no "
            "chemistry package.",
            tolerance_of=self.domain.tolerance_of,
        )

    def _seeds(self, indices: Mapping[int, Structure]) -> list[int]:
        return sample_seeds(self.seed, torch.tensor(list(indices))).tolist()
