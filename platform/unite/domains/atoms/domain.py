"""The domain of atoms: molecules and crystals, through the trainer that trains images.

A sample is a dict of padded tensors: `types` int64 (B, N), `pos` (B, N, 3) in A, `mask` (B, N), and
of crystals `frac` (B, N, 3) in [0, 1), `lengths` and `angles` (B, 3) in A and degrees. A
reconstruction has `logits` (B, N, 100) in place of `types`. One register stands for each atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.domains import AtomsConfig, CrystalsConfig, MoleculesConfig
from unite.config.schema import EncoderConfig, LossConfig, ModelConfig
from unite.domains.atoms import featurise, losses
from unite.domains.atoms.augmentation import cartesian, rotate, translate
from unite.domains.atoms.elements import MAX_ELEMENTS
from unite.domains.atoms.embedder import AtomEmbedder, AtomHead, on_circle
from unite.domains.atoms.picture import picture
from unite.domains.atoms.structure import Structure
from unite.domains.base import BadRows, Domain
from unite.domains.columns import CRYSTALS, MOLECULES
from unite.domains.sizes import draw_sizes, mask_of, size_histogram
from unite.models.positions import sincos_1d

PICTURE_TOLERANCE = 0.25
"""Tolerance in A of the bonds in pictures of crystals, as `bond_tolerance` of molecules."""
NOT_NEGATIVE = ("position_weight", "lengths_weight", "angles_weight", "bond_tolerance")
"""Fields of molecules or crystals that must not be negative."""


def require_sound(config: AtomsConfig) -> None:
    """ValueError naming a field of a config that no samples can have."""
    if bad := [number for number in config.elements if not 0 < number < MAX_ELEMENTS]:
        raise ValueError(
            f"domain.elements holds {bad[0]}: atomic numbers are 1..{MAX_ELEMENTS - 1}"
        )
    if config.max_atoms < 1:
        raise ValueError(f"domain.max_atoms = {config.max_atoms} must be at least 1")
    if not config.mean_atoms > 0:
        raise ValueError(f"domain.mean_atoms = {config.mean_atoms} must be above 0")
    for name in NOT_NEGATIVE:
        if (value := getattr(config, name, 0.0)) < 0:
            raise ValueError(f"domain.{name} = {value} must not be negative")
    if on_circle(config) and config.loss == "adit":
        raise ValueError(
            "domain.frac_code = circle has no border that domain.loss = adit could count: set "
            "domain.frac_code to plain or domain.loss to unite"
        )


class AtomsDomain(Domain):
    """Base of molecules and crystals; `config.periodic` tells them apart."""

    best_metric = "match_pct"
    rows_per_task = 256
    config: AtomsConfig

    def __init__(self, config: AtomsConfig) -> None:
        require_sound(config)
        self.config = config
        self.num_classes = config.num_classes
        self.tolerance = getattr(config, "bond_tolerance", PICTURE_TOLERANCE)

    def validate(self, model: ModelConfig) -> None:
        """One register for each atom, so K is the most atoms."""
        if model.num_registers != self.config.max_atoms:
            raise ValueError(
                f"model.num_registers = {model.num_registers}, but every atom has a register: set "
                f"it to domain.max_atoms = {self.config.max_atoms}"
            )

    # Modules -------------------------------------------------------------------------------------

    def build_embedder(self, width: int, config: EncoderConfig) -> nn.Module:
        """Type, coordinates, index and role of each atom."""
        return AtomEmbedder(self.config, width)

    def build_head(self, width: int) -> nn.Module:
        """Types and coordinates of each atom, and the cell of a crystal."""
        return AtomHead(self.config, width)

    def decoder_positions(self, width: int) -> Tensor:
        """The sin-cos table of indices, (K, H)."""
        return sincos_1d(self.config.max_atoms, width)

    def embedder_macs(self, model: ModelConfig) -> float:
        """Coordinates on every atom, the cell once; looking a type up multiplies nothing."""
        width, atoms = model.encoder.width, self.config.max_atoms
        macs = atoms * (3 * width + width * width)
        if self.config.periodic:
            macs += atoms * (self._frac_width * width + width * width) + 6 * width
        return macs

    def head_macs(self, model: ModelConfig) -> float:
        """Types and coordinates on every atom, the cell once."""
        width, atoms = model.decoder.width, self.config.max_atoms
        out = self._frac_width if self.config.periodic else 3
        return atoms * width * (MAX_ELEMENTS + out) + 6 * width * self.config.periodic

    @property
    def _frac_width(self) -> int:
        return 6 if on_circle(self.config) else 3

    def register_mask(self, sample: Mapping[str, Tensor]) -> Tensor:
        """True at atoms."""
        return sample["mask"]

    def token_mask(self, sample: Mapping[str, Tensor]) -> Tensor:
        """True at atoms."""
        return sample["mask"]

    # Sizes and statistics ------------------------------------------------------------------------

    def sizes(self, fields: Mapping[str, np.ndarray]) -> np.ndarray:
        """Number of atoms of each row."""
        return fields["num_atoms"]

    def trim(self, fields: Mapping[str, np.ndarray], length: int) -> Mapping[str, np.ndarray]:
        """Arrays cut to `length` atoms."""
        per_atom = ("numbers", "positions", "frac")
        return {k: v[:, :length] if k in per_atom else v for k, v in fields.items()}

    def statistics(self, train: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """`sizes`: number of training samples of each number of atoms, int64 (most + 1,);
        `elements`: True at the elements that occur, bool (100,)."""
        elements = np.zeros(MAX_ELEMENTS, bool)

        def sizes() -> Iterator[np.ndarray]:
            for fields in train:
                elements[np.unique(fields["numbers"])] = True
                yield fields["num_atoms"]

        histogram = size_histogram(sizes(), self.config.max_atoms)
        elements[0] = False
        return {"sizes": histogram, "elements": torch.from_numpy(elements)}

    def draw_mask(
        self, keys_B: Tensor, statistics: Mapping[str, Tensor], labels_B: Tensor
    ) -> Tensor:
        """Registers in use, (B, K): sizes drawn from the training histogram."""
        sizes_B = draw_sizes(keys_B, statistics["sizes"].to(keys_B.device))
        return mask_of(sizes_B, self.config.max_atoms)

    # Data ----------------------------------------------------------------------------------------

    def decode_rows(
        self, rows: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, np.ndarray], BadRows]:
        """Columns to padded arrays; see `featurise.decode`."""
        return featurise.decode(rows, self.config)

    def to_sample(self, fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """(sample, labels of the null class): Cartesian positions are made of fractional ones."""
        types_BN = fields["numbers"].long()
        sample = {"types": types_BN, "mask": types_BN > 0}
        if not self.config.periodic:
            sample["pos"] = fields["positions"].float()
        else:
            for name in ("frac", "lengths", "angles"):
                sample[name] = fields[name].float()
            sample["pos"] = cartesian(sample["frac"], sample["lengths"], sample["angles"])
        return sample, torch.zeros(len(types_BN), dtype=torch.int64, device=types_BN.device)

    def example_fields(self, num: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Atoms of random elements on a cubic grid, as many as fit."""
        config = self.config
        known = np.array(config.elements or range(1, MAX_ELEMENTS))
        side = int(np.ceil(config.max_atoms ** (1 / 3)))
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)
        points = np.broadcast_to(grid[: config.max_atoms], (num, config.max_atoms, 3))
        fields: dict[str, np.ndarray] = {
            "numbers": generator.choice(known, (num, config.max_atoms)).astype(np.uint8),
            "num_atoms": np.full(num, config.max_atoms, np.int64),
        }
        if not config.periodic:
            centred = points - points.mean(1, keepdims=True)
            return fields | {"positions": (1.5 * centred).astype(np.float32)}
        fields["frac"] = (points / side).astype(np.float32)
        fields["lengths"] = np.full((num, 3), 2.5 * side, np.float32)
        return fields | {"angles": np.full((num, 3), 90.0, np.float32)}

    def augment(self, sample: Mapping[str, Tensor], keys_B: Tensor) -> dict[str, Tensor]:
        """A translation within the cell, then a rotation; never a reflection."""
        new = dict(sample)
        if isinstance(self.config, CrystalsConfig) and self.config.translate:
            new["frac"] = translate(sample["frac"], keys_B, sample["mask"])
            new["pos"] = cartesian(new["frac"], sample["lengths"], sample["angles"])
        if self.config.rotate:
            new["pos"] = rotate(new["pos"], keys_B)
        return new

    # Reconstruction ------------------------------------------------------------------------------

    def reconstruction_terms(
        self,
        reconstruction: Mapping[str, Tensor],
        sample: Mapping[str, Tensor],
        loss: LossConfig,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> dict[str, Tensor]:
        """`types`, `positions` and, of crystals, `lattice`; see `losses`."""
        if isinstance(self.config, CrystalsConfig):
            return losses.crystal_terms(reconstruction, sample, self.config)
        return losses.molecule_terms(reconstruction, sample, self.config)

    def reconstruction_loss(self, terms: Mapping[str, Tensor], loss: LossConfig) -> Tensor:
        """reconstruction_weight * (types + position_weight * positions + lattice)."""
        return loss.reconstruction_weight * losses.loss_of(terms, self.config)

    def reconstruction_metrics(
        self, reconstruction: Mapping[str, Tensor], sample: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match, types and errors of coordinates of each sample; see `losses`."""
        if isinstance(self.config, MoleculesConfig):
            return losses.molecule_metrics(reconstruction, sample, self.config)
        return losses.crystal_metrics(reconstruction, sample)

    def as_reconstruction(self, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A sample with certain types."""
        logits = F.one_hot(sample["types"], MAX_ELEMENTS).float()
        return {**{k: v for k, v in sample.items() if k != "types"}, "logits": logits}

    # A suite of one kind measures any model of that kind, a joint one too -------------------------

    def sample_of(self, kind: str, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A sample of the domain `kind` as the model of this domain reads it."""
        return dict(sample)

    def reconstruction_of(
        self, kind: str, reconstruction: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """A reconstruction of the model as the domain `kind` has it."""
        return dict(reconstruction)

    def is_of(self, kind: str, reconstruction: Mapping[str, Tensor]) -> Tensor | None:
        """True for each sample (B,) that is decoded as of `kind`; None where there is one alone."""
        return None

    def finite(self, reconstruction: Mapping[str, Tensor]) -> Tensor:
        """True for each sample (B,) of a reconstruction whose every number is finite."""
        names = ("logits", "pos", "circle", "frac", "lengths", "angles")
        parts = [reconstruction[name].flatten(1) for name in names if name in reconstruction]
        return torch.stack([part.isfinite().all(1) for part in parts]).all(0).cpu()

    def structures(
        self, reconstruction: Mapping[str, Tensor], mask_BK: Tensor | None = None
    ) -> list[Structure]:
        """Each sample of a reconstruction by itself: most probable types, no padding.

        Fractional coordinates are wrapped into [0, 1); `mask_BK` is the reconstruction's own unless
        given.
        """
        mask_BK = reconstruction["mask"] if mask_BK is None else mask_BK
        types_BN = losses.predicted_types({**reconstruction, "mask": mask_BK}).cpu().numpy()
        arrays = {
            name: reconstruction[name].detach().double().cpu()
            for name in ("pos", "frac", "lengths", "angles")
            if name in reconstruction
        }
        if self.config.periodic:
            arrays["frac"] = arrays["frac"] - arrays["frac"].floor()
            arrays["pos"] = cartesian(arrays["frac"], arrays["lengths"], arrays["angles"])
        rows = {name: values.numpy() for name, values in arrays.items()}
        kept = mask_BK.cpu().numpy()
        return [
            _structure(types_BN[row], kept[row], {k: v[row] for k, v in rows.items()})
            for row in range(len(kept))
        ]

    def render(self, reconstruction: Mapping[str, Tensor], mask_BK: Tensor | None = None) -> Tensor:
        """Balls and bonds, uint8 (B, 160, 160, 3)."""
        drawn = [
            picture(each, self.tolerance_of(each))
            for each in self.structures(reconstruction, mask_BK)
        ]
        return torch.from_numpy(np.stack(drawn))

    def tolerance_of(self, structure: Structure) -> float:
        """Tolerance in A of a structure's bonds."""
        return self.tolerance

    def facts(self) -> dict[str, str]:
        """Largest size and elements in one line."""
        known = featurise.known_elements(self.config)
        return {self.name: f"at most {self.config.max_atoms} atoms of {known}"}


class MoleculesDomain(AtomsDomain):
    """Molecules of QM9's kind: positions of all atoms, hydrogens included."""

    name = "molecules"
    noun = "molecule"
    columns = MOLECULES


class CrystalsDomain(AtomsDomain):
    """Crystals of MP20's kind: a cell and the atoms in it."""

    name = "crystals"
    noun = "crystal"
    columns = CRYSTALS


def _structure(
    types_N: np.ndarray, mask_N: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> Structure:
    cell = {name: arrays[name] for name in ("lengths", "angles") if name in arrays}
    frac = arrays["frac"][mask_N] if "frac" in arrays else None
    return Structure(numbers=types_N[mask_N], positions=arrays["pos"][mask_N], frac=frac, **cell)
