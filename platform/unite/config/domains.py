"""Domains' configs: what a sample is, in `RunConfig.domain`.

Each names itself by its `kind`, which is how a stored config finds its class again. It is declared
with `metadata=LATER` in images alone, whose runs were named before there was a second kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeAlias

from unite.config.serialise import LATER

AtomsLoss = Literal["unite", "adit"]
FracCode = Literal["plain", "circle"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Square RGB or grey images with class labels (the first domain)."""

    kind: Literal["images"] = field(default="images", metadata=LATER)
    """Name of the domain; a stored config without one is of images."""
    size: int = 256
    """Height and width in pixels, after the centre crop."""
    patch: int = 16
    """Side of a patch in pixels; must divide `size`. N = (size / patch)^2 patches."""
    channels: int = 3
    """Colour channels: 3 (RGB) or 1 (grey)."""
    num_classes: int = 1000
    """Classes; labels are 0..num_classes-1. The null class of guidance is added by the model."""
    flip: bool = True
    """Random horizontal flip in training, addressed by (seed, epoch, row)."""


@dataclass(frozen=True, kw_only=True)
class MoleculesConfig:
    """Molecules: element types and positions of all atoms, without a condition."""

    num_classes: ClassVar[int] = 0
    """Number of classes: none, the model is unconditional."""
    periodic: ClassVar[bool] = False
    """True if samples have a cell."""
    kind: Literal["molecules"] = "molecules"
    """Name of the domain."""
    max_atoms: int = 29
    """Largest molecule in atoms, hydrogens included; larger ones are bad rows, never cut."""
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    """Atomic numbers that the model knows; empty = 1..99."""
    rotate: bool = True
    """Random rotation in training, one per sample and epoch; never a reflection."""
    loss: AtomsLoss = "unite"
    """`unite`: Huber error of positions in A with its bend at 0.1 A; `adit`: squared error in
    nm times 10."""
    mean_atoms: float = 18.0
    """Atoms of an average sample. Sums over atoms are divided by samples times this constant, so
    that no loss depends on how a batch is cut."""
    position_weight: float = 1.0
    """Weight of the position term against the cross entropy of types."""
    bond_tolerance: float = 0.25
    """Atoms nearer than the sum of their covalent radii plus this many A are bonded: 0.25 for
    DFT geometries, 0.30 for those of force fields."""


@dataclass(frozen=True, kw_only=True)
class CrystalsConfig:
    """Crystals: a cell, and the element types and fractional coordinates of its atoms."""

    num_classes: ClassVar[int] = 0
    """Number of classes: none, the model is unconditional."""
    periodic: ClassVar[bool] = True
    """True if samples have a cell."""
    kind: Literal["crystals"] = "crystals"
    """Name of the domain."""
    max_atoms: int = 20
    """Largest cell in atoms; larger ones are bad rows, never cut."""
    elements: tuple[int, ...] = ()
    """Atomic numbers that the model knows; empty = 1..99."""
    rotate: bool = True
    """Random rotation of the cell in training, one per sample and epoch; never a reflection."""
    translate: bool = True
    """Random translation of the atoms within the cell in training, one per sample and epoch."""
    loss: AtomsLoss = "unite"
    """`unite`: errors of fractional coordinates wrapped into the cell; `adit`: as they are."""
    frac_code: FracCode = field(default="plain", metadata=LATER)
    """Form of fractional coordinates in the network: `plain` numbers, or `circle`, the cosine and
    sine of each as an angle, which know no border of the cell."""
    mean_atoms: float = 10.0
    """Atoms of an average sample. Sums over atoms are divided by samples times this constant, so
    that no loss depends on how a batch is cut."""
    position_weight: float = 10.0
    """Weight of the squared error of fractional coordinates against the cross entropy of types."""
    lengths_weight: float = 1.0
    """Weight of the squared error of lengths / N^(1/3), in A, within the lattice term."""
    angles_weight: float = 10.0
    """Weight of the squared error of angles, in rad, within the lattice term."""


AtomsConfig: TypeAlias = MoleculesConfig | CrystalsConfig


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Molecules and crystals in one model: the kind of a sample is its class."""

    num_classes: Literal[2] = 2
    """Number of classes: 0 = molecules, 1 = crystals."""
    kind: Literal["structures"] = "structures"
    """Name of the domain."""
    molecules: MoleculesConfig = field(default_factory=MoleculesConfig)
    """The part of molecules."""
    crystals: CrystalsConfig = field(default_factory=CrystalsConfig)
    """The part of crystals."""

    @property
    def parts(self) -> tuple[MoleculesConfig, CrystalsConfig]:
        """The parts in the order of their classes."""
        return self.molecules, self.crystals

    @property
    def max_atoms(self) -> int:
        """Atoms of the larger part's largest sample."""
        return max(self.molecules.max_atoms, self.crystals.max_atoms)

    @property
    def shared(self) -> CrystalsConfig:
        """Form of the layers that both parts share: those of crystals, for all sizes and elements
        of both."""
        parts = (self.molecules.elements, self.crystals.elements)
        elements = tuple(sorted({*parts[0], *parts[1]})) if all(parts) else ()
        return replace(self.crystals, max_atoms=self.max_atoms, elements=elements)


# What RunConfig.domain may hold. `from_dict` takes the member of a stored config's `kind`, and
# `unite.domains.build_domain` builds its domain.
DomainConfig: TypeAlias = ImagesConfig | MoleculesConfig | CrystalsConfig | JointConfig
