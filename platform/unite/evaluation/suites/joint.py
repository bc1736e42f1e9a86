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


class MoleculesGeneration(Generation):
    """Samples of the class of molecules."""

    suite: ClassVar[str] = "generation-molecules"

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """As of molecules alone."""
        return super().of(arguments, part_of(target, 0))


class CrystalsGeneration(Generation):
    """Samples of the class of crystals."""

    suite: ClassVar[str] = "generation-crystals"

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """As of crystals alone."""
        return super().of(arguments, part_of(target, 1))


class MoleculesReconstruction(Reconstruction):
    """Held-out molecules."""

    suite: ClassVar[str] = "reconstruction-molecules"

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """As of molecules alone."""
        return super().of(arguments, part_of(target, 0))


class CrystalsReconstruction(Reconstruction):
    """Held-out crystals."""

    suite: ClassVar[str] = "reconstruction-crystals"

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """As of crystals alone."""
        return super().of(arguments, part_of(target, 1))
