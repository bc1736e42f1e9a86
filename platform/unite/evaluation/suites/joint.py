"""The suites of one kind on each part of a joint model: its class, its folder, its truth.

A part is measured as a model of its kind alone would be, with `kind_pct` beside it: the share of
samples that are decoded as that kind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

from unite.data.parts import parts_of
from unite.domains.stored import stored_of
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.dataset import Dataset
from unite.evaluation.suite import Suite
from unite.evaluation.suites.atoms_generation import Generation
from unite.evaluation.suites.atoms_reconstruction import Reconstruction
from unite.evaluation.target import Target


def part_of(target: Target, label: int) -> Target:
    """One part of a joint target: the config of its domain, the rows of its folder, its class."""
    config: Any = target.subject.config
    domain = config.domain.parts[label]
    columns = stored_of(domain).columns

    def rows(data: Dataset) -> Dataset:
        return Dataset.open(parts_of(data.uri)[label], data.split, columns)

    return replace(
        target,
        subject=replace(target.subject, config=replace(config, domain=domain)),
        train=rows(target.train),
        held_out=rows(target.held_out),
        label=label,
    )


class OfPart(Suite):
    """A suite of the part's kind alone, on a joint model's target."""

    part: ClassVar[int]
    """Class of the part's samples."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request, on the part of its target."""
        return super().of(arguments, part_of(target, cls.part))


class MoleculesGeneration(OfPart, Generation):
    """Samples of the class of molecules."""

    suite: ClassVar[str] = "generation-molecules"
    part: ClassVar[int] = 0


class CrystalsGeneration(OfPart, Generation):
    """Samples of the class of crystals."""

    suite: ClassVar[str] = "generation-crystals"
    part: ClassVar[int] = 1


class MoleculesReconstruction(OfPart, Reconstruction):
    """Held-out molecules."""

    suite: ClassVar[str] = "reconstruction-molecules"
    part: ClassVar[int] = 0


class CrystalsReconstruction(OfPart, Reconstruction):
    """Held-out crystals."""

    suite: ClassVar[str] = "reconstruction-crystals"
    part: ClassVar[int] = 1
