"""The joint domain: molecules and crystals through one model, the kind of a sample as its class.

A sample has the tensors of a crystal, and `crystal` bool (B,), True at crystals; the cell of a
molecule is a placeholder that nothing reads. A reconstruction has the coordinates of both kinds and
`part` (B,), the logit of being a crystal, so that a decoded sample says by itself what it is.
Losses, augmentation and metrics of a kind are those of its own domain, on its samples only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.domains import JointConfig
from unite.config.schema import EncoderConfig, LossConfig, ModelConfig
from unite.domains.atoms import losses
from unite.domains.atoms.augmentation import cartesian
from unite.domains.atoms.domain import AtomsDomain, CrystalsDomain, MoleculesDomain
from unite.domains.atoms.elements import MAX_ELEMENTS
from unite.domains.atoms.embedder import JointEmbedder, JointHead, to_circle
from unite.domains.atoms.geometry import center
from unite.domains.atoms.structure import Structure
from unite.domains.base import BadRows
from unite.domains.columns import STRUCTURES, names_of
from unite.domains.sizes import draw_sizes, mask_of, size_histogram

MOLECULE, CRYSTAL = 0, 1
"""Classes of the two kinds."""
Atoms = Mapping[str, Tensor]


class JointDomain(AtomsDomain):
    """Molecules and crystals."""

    name = "structures"
    noun = "structure"
    columns = STRUCTURES
    config: Any

    def __init__(self, config: JointConfig) -> None:
        self.config = config
        self.num_classes = config.num_classes
        self.molecules = MoleculesDomain(config.molecules)
        self.crystals = CrystalsDomain(config.crystals)
        self.shared = CrystalsDomain(config.shared)
        self.parts = (self.molecules, self.crystals)
        self._molecule_types = config.molecules.elements or range(1, MAX_ELEMENTS)

    @property
    def folders(self) -> tuple[str, ...]:
        """A folder of each kind."""
        return tuple(part.name for part in self.parts)

    # Modules -------------------------------------------------------------------------------------

    def build_embedder(self, width: int, config: EncoderConfig) -> nn.Module:
        """The embedder of crystals, whose cell and fractional coordinates molecules leave out."""
        return JointEmbedder(self.config.shared, width)

    def build_head(self, width: int) -> nn.Module:
        """Coordinates of both kinds, and the kind."""
        return JointHead(self.config.shared, width)

    def embedder_macs(self, model: ModelConfig) -> float:
        """As of crystals."""
        return self.shared.embedder_macs(model)

    def head_macs(self, model: ModelConfig) -> float:
        """As of crystals, positions on every atom, the kind once."""
        width = model.decoder.width
        return self.shared.head_macs(model) + width * (3 * self.config.max_atoms + 1)

    # Sizes and statistics ------------------------------------------------------------------------

    def statistics(self, train: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """`sizes`: training samples of each kind by number of atoms, int64 (2, most + 1);
        `elements`: True at the elements that occur, bool (100,)."""
        elements = np.zeros(MAX_ELEMENTS, bool)
        sizes: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for fields in train:
            elements[np.unique(fields["numbers"])] = True
            for part, kept in enumerate(sizes):
                kept.append(fields["num_atoms"][fields["crystal"] == bool(part)])
        elements[0] = False
        histograms = [size_histogram(kept, self.config.max_atoms) for kept in sizes]
        for part, histogram in zip(self.parts, histograms, strict=True):
            if not histogram.sum():
                raise ValueError(
                    f"data.train holds no {part.name}, and joint training needs both kinds: name a "
                    "folder of each, as in --data.train shards/qm9::shards/mp20"
                )
        return {"sizes": torch.stack(histograms), "elements": torch.from_numpy(elements)}

    def draw_mask(
        self, keys_B: Tensor, statistics: Mapping[str, Tensor], labels_B: Tensor
    ) -> Tensor:
        """Sizes drawn from the histogram of each sample's kind; without a class, of both."""
        sizes_2M = statistics["sizes"].to(keys_B.device)
        drawn_3B = torch.stack([draw_sizes(keys_B, h) for h in (*sizes_2M, sizes_2M.sum(0))])
        sizes_B = drawn_3B.gather(0, labels_B[None])[0]
        return mask_of(sizes_B, self.config.max_atoms)

    # Data ----------------------------------------------------------------------------------------

    def decode_rows(
        self, rows: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, np.ndarray], BadRows]:
        """Columns to padded arrays of both kinds; a row with a cell is a crystal."""
        crystal_B = np.array([cell is not None for cell in rows["lengths"]], bool)
        fields, bad = self._empty(len(crystal_B)), []
        fields["crystal"][:] = crystal_B
        for kind, part in enumerate(self.parts):
            chosen = np.flatnonzero(crystal_B == bool(kind))
            if not len(chosen):
                continue
            cells = {
                name: [rows[name][row] for row in chosen.tolist()]
                for name in names_of(part.columns)
            }
            own, failed = part.decode_rows(cells)
            self._place(fields, chosen, own)
            bad += [(int(chosen[row]), reason) for row, reason in failed]
        for values in fields.values():
            values[[row for row, _ in bad]] = 0
        return fields, sorted(bad)

    def _empty(self, num: int) -> dict[str, np.ndarray]:
        most = self.config.max_atoms
        return {
            "numbers": np.zeros((num, most), np.uint8),
            "num_atoms": np.zeros(num, np.int64),
            "crystal": np.zeros(num, bool),
            **{name: np.zeros((num, most, 3), np.float32) for name in ("positions", "frac")},
            **{name: np.zeros((num, 3), np.float32) for name in ("lengths", "angles")},
        }

    def _place(
        self, fields: dict[str, np.ndarray], chosen: np.ndarray, own: Mapping[str, np.ndarray]
    ) -> None:
        """Write the arrays of one kind to its rows; its atoms may be padded to fewer."""
        for name, values in own.items():
            if name in ("numbers", "positions", "frac"):
                fields[name][chosen, : values.shape[1]] = values
            else:
                fields[name][chosen] = values

    def to_sample(self, fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """(sample, labels): molecules get a cubic cell of 1 A in which no atom lies."""
        types_BN, crystal_B = fields["numbers"].long(), fields["crystal"].bool()
        lengths = _where(crystal_B, fields["lengths"].float(), 1.0)
        angles = _where(crystal_B, fields["angles"].float(), 90.0)
        frac = fields["frac"].float()
        pos = _where(crystal_B, cartesian(frac, lengths, angles), fields["positions"].float())
        sample = {"types": types_BN, "mask": types_BN > 0, "crystal": crystal_B, "pos": pos}
        return sample | {"frac": frac, "lengths": lengths, "angles": angles}, crystal_B.long()

    def example_fields(self, num: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """The two kinds in turn, each of its most atoms."""
        fields = self._empty(num)
        fields["crystal"][CRYSTAL::2] = True
        for kind, part in enumerate(self.parts):
            chosen = np.arange(kind, num, 2)
            self._place(fields, chosen, part.example_fields(len(chosen), generator))
        return fields

    def augment(self, sample: Atoms, keys_B: Tensor) -> dict[str, Tensor]:
        """Each kind as its own domain does: a molecule is never translated."""
        molecules, crystals = (part.augment(sample, keys_B) for part in self.parts)
        return {
            name: _where(sample["crystal"], crystals[name], values)
            for name, values in molecules.items()
        }

    # Reconstruction ------------------------------------------------------------------------------

    def reconstruction_terms(
        self,
        reconstruction: Atoms,
        sample: Atoms,
        loss: LossConfig,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> dict[str, Tensor]:
        """`types` of both, `positions` of molecules, `frac` and `lattice` of crystals, and `part`,
        the cross entropy of the kind in nat; all divided by the samples of both kinds."""
        molecules, crystals = (
            part.reconstruction_terms(*self._only(kind, reconstruction, sample), loss, perceptual)
            for kind, part in enumerate(self.parts)
        )
        crystal_B = sample["crystal"].float()
        return {
            "types": molecules["types"] + crystals["types"],
            "positions": molecules["positions"],
            "frac": crystals["positions"],
            "lattice": crystals["lattice"],
            "part": F.binary_cross_entropy_with_logits(reconstruction["part"].float(), crystal_B),
        }

    def _only(self, kind: int, atoms: Atoms, sample: Atoms) -> tuple[Atoms, Atoms]:
        """A batch in which the other kind's samples have no error: unknown types, true
        coordinates. No gradient reaches them, and sums still count them as samples."""
        own_B = sample["crystal"] == bool(kind)
        true = {"pos": center(sample["pos"], sample["mask"])}
        true |= {name: sample[name] for name in ("frac", "lengths", "angles")}
        true["circle"] = to_circle(sample["frac"])
        judged = dict(atoms if kind else self._as_molecules(atoms))
        for name in true.keys() & judged.keys():
            judged[name] = _where(own_B, judged[name].float(), true[name])
        return judged, {**sample, "types": _where(own_B, sample["types"], 0)}

    def _as_molecules(self, atoms: Atoms) -> Atoms:
        """The logits of elements that no molecule has at the lowest number."""
        logits = atoms["logits"]
        known = torch.zeros(MAX_ELEMENTS, dtype=torch.bool, device=logits.device)
        for number in self._molecule_types:  # each filled on the device: no list is copied there
            known[number].fill_(True)
        lowest = torch.finfo(logits.dtype).min
        return {**atoms, "logits": logits.masked_fill(~known, lowest)}

    def reconstruction_loss(self, terms: Mapping[str, Tensor], loss: LossConfig) -> Tensor:
        """reconstruction_weight * (types + part + lattice + each kind's weight times its
        coordinates)."""
        weights = (part.config.position_weight for part in self.parts)
        coordinates = zip(weights, (terms["positions"], terms["frac"]), strict=True)
        total = terms["types"] + terms["part"] + terms["lattice"]
        return loss.reconstruction_weight * sum((w * term for w, term in coordinates), total)

    def reconstruction_metrics(self, reconstruction: Atoms, sample: Atoms) -> dict[str, Tensor]:
        """Metrics of each sample as of its kind; what is decoded as the other kind is no match."""
        crystal_B = sample["crystal"]
        molecules = self.molecules.reconstruction_metrics(
            self._as_molecules(reconstruction), sample
        )
        crystals = losses.crystal_metrics(reconstruction, sample)
        found = {name: _where(crystal_B, crystals[name], molecules[name]) for name in molecules}
        right_B = (reconstruction["part"] > 0) == crystal_B
        return found | {"match_pct": found["match_pct"] * right_B}

    def as_reconstruction(self, sample: Atoms) -> dict[str, Tensor]:
        """A sample with certain types and a certain kind."""
        part_B = torch.where(sample["crystal"], 1.0, -1.0)
        return {**super().as_reconstruction(sample), "part": part_B}

    # One kind alone ------------------------------------------------------------------------------

    def sample_of(self, kind: str, sample: Atoms) -> dict[str, Tensor]:
        """A sample of one kind with what the other has: molecules get the cell of `to_sample`."""
        crystal = kind == self.crystals.name
        whole = {**sample, "crystal": torch.full_like(sample["mask"][:, 0], crystal)}
        if crystal:
            return whole
        pos_BN3 = sample["pos"]
        cell_B3 = pos_BN3.new_ones(len(pos_BN3), 3)
        whole |= {"frac": torch.zeros_like(pos_BN3), "lengths": cell_B3, "angles": 90 * cell_B3}
        return whole

    def reconstruction_of(self, kind: str, reconstruction: Atoms) -> dict[str, Tensor]:
        """The tensors that the domain of a kind has, with the elements that it knows."""
        if kind == self.molecules.name:
            reconstruction = self._as_molecules(reconstruction)
            return {name: reconstruction[name] for name in ("logits", "mask", "pos")}
        return {k: v for k, v in reconstruction.items() if k not in ("pos", "part")}

    def is_of(self, kind: str, reconstruction: Atoms) -> Tensor:
        """By the logit of the kind."""
        return (reconstruction["part"] > 0) == (kind == self.crystals.name)

    def structures(self, reconstruction: Atoms, mask_BK: Tensor | None = None) -> list[Structure]:
        """Each sample by itself, as the kind that it is decoded as."""
        both = [
            part.structures(self.reconstruction_of(part.name, reconstruction), mask_BK)
            for part in self.parts
        ]
        kinds = (reconstruction["part"] > 0).tolist()
        return [both[kind][row] for row, kind in enumerate(kinds)]

    def tolerance_of(self, structure: Structure) -> float:
        """Tolerance in A of a structure's bonds, by its kind."""
        return self.parts[structure.frac is not None].tolerance

    def facts(self) -> dict[str, str]:
        """Largest size and elements of each kind."""
        return self.molecules.facts() | self.crystals.facts()


def _where(chosen_B: Tensor, ones: Tensor, others: Any) -> Tensor:
    """`ones` at the chosen samples, `others` (of the same form, or a scalar) at the rest."""
    shape = (len(chosen_B),) + (1,) * (ones.dim() - 1)
    if isinstance(others, Tensor):
        others = others.to(ones)
    return torch.where(chosen_B.view(shape), ones, others)
