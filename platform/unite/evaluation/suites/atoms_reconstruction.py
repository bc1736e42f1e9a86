"""Reconstruction of held-out molecules or crystals (METHOD 7; paper Tables 3 and 5).

D(GE_tokenize(x)) against x without latent noise, with tokenization noise addressed by row. Types,
RMSD and native match go by atom index; where pymatgen is installed the match that the paper counts
is there too: MoleculeMatcher of molecules (through Open Babel), StructureMatcher of crystals.
Samples are decoded first and kept; then they are matched, which needs no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np

from unite.domains import build_domain
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.chemistry import MATCHER, versions
from unite.domains.atoms.verdicts.crystals import ANGLE_RULE, smact_digest
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.atoms.decoded import Decoded
from unite.evaluation.atoms.rows import atoms_row
from unite.evaluation.atoms.rules import ask, check_packages, crystals_valid, installed
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome
from unite.evaluation.suite import Run, Suite, read_chunks, work_items
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.atoms.judged import kind_numbers
from unite.metrics.atoms.summary import mean, percentage, reconstruction
from unite.words import count


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Suite):
    """The first N held-out samples."""

    suite: ClassVar[str] = "reconstruction"
    on_cpu: ClassVar[bool] = True

    data: Dataset
    seed: int = 0
    matcher: str = ""
    """Task of `verdicts.chemistry` that matches; empty = none is installed."""
    packages: tuple[tuple[str, str], ...] = ()
    """Packages of the matcher with their versions, and the digest of SMACT's table."""
    missing: tuple[str, ...] = field(default=(), compare=False)
    """Words on packages that are not installed."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request, with the matcher that is installed."""
        decoded = Decoded.of(arguments, target)
        matcher, packages, missing = _matcher(target.subject.config.domain.kind)
        return cls(matcher=matcher, packages=packages, missing=missing, **_shared_fields(decoded))

    @property
    def crystals(self) -> bool:
        """True if its samples have a cell."""
        return self.subject.config.domain.kind == "crystals"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries, the noise and the matcher's packages."""
        return super().versions | dict(self.packages)

    @property
    def notices(self) -> tuple[str, ...]:
        """Packages that are missing, and what is measured without them."""
        return tuple(f"{each}; the native match needs none" for each in self.missing)

    @property
    def decoded(self) -> Decoded:
        """Task that reconstructs."""
        return Decoded(**_shared_fields(self))

    def prepared(self, run: Run) -> Self:
        """With its samples reconstructed."""
        noun = build_domain(self.subject.config.domain).noun
        run(f"reconstructing {count(self.total, noun)}", work_items(self.decoded))
        return self

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Distances of the matched."""
        return {"matched/": Stack("distance", "both_valid")}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Match the kept reconstructions of a chunk of rows."""
        if not self.matcher:
            return
        check_packages(self.packages, (self.matcher,))
        domain: Any = self.domain(instruments)
        made = iter(self.decoded.read(chunk))
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            true = domain.structures(domain.as_reconstruction(rows.sample), rows.mask_BK)
            ours = list(islice(made, len(true)))
            totals["matched/"].update(**self._matched(ours, true, instruments))

    def _matched(
        self, made: Sequence[Structure], true: Sequence[Structure], instruments: Instruments
    ) -> dict[str, np.ndarray]:
        """The matcher's distance of each pair, NaN without a match; crystals: True if both are
        valid."""
        verdicts = ask(self.matcher, made, 0.0, instruments, true)
        distances = [each.get("rms" if self.crystals else "rmsd") for each in verdicts]
        found = {"distance": np.array(distances, float)}
        if self.crystals:
            valid = [crystals_valid(made), crystals_valid(true)]
            found["both_valid"] = np.logical_and(*valid)
        return found

    def outcome(self, totals: Any) -> Outcome:
        """Rates and errors over all samples, each with its standard error."""
        decoded: Any = self.decoded.merged(read_chunks(self.decoded))
        samples = decoded["samples/"].result()
        num = len(samples["match_pct"])
        numbers = {
            name: (value, _error(name, samples), "native")
            for name, value in reconstruction(samples).items()
        }
        numbers |= self._matcher_numbers(totals["matched/"].result())
        for name, (value, error, _) in kind_numbers(decoded["kind/"].result()).items():
            numbers[name] = value, error, "kind"
        rows = []
        for name, (value, error, match) in numbers.items():
            if np.isfinite(value):
                shared = {"data": self.data.digest, "seed": self.seed, "num_samples": num}
                details = {"match": match} | (MATCHER if match == "match_crystals" else {})
                details |= ANGLE_RULE if name == "match_valid_pct" else {}
                card = self.card(name, value, **shared, details=details)
                rows.append(atoms_row(card, error, None, self.subject.config.domain.kind))
        return Outcome(
            suite=self.suite,
            protocol=f"held-out samples against D(GE(x)), {self.matcher or 'native match'}, "
            f"{self.precision}",
            rows=tuple(rows),
            remarks=(*undecodable(self.data, self.total, num), *self.missing),
        )

    def _matcher_numbers(
        self, matched: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float, str]]:
        """Value, standard error and matcher of the numbers that a matcher gives."""
        if not self.matcher:
            return {}
        hits = np.isfinite(matched["distance"])
        rate = (*percentage(int(hits.sum()), len(hits)), self.matcher)
        if not self.crystals:
            return {"match_openbabel_pct": rate}
        both = hits & matched["both_valid"]
        return {
            "match_pct": rate,
            "match_valid_pct": (*percentage(int(both.sum()), len(hits)), self.matcher),
            "rms": (*mean(matched["distance"][hits]), self.matcher),
        }


def _shared_fields(suite: Decoded | Reconstruction) -> dict[str, Any]:
    """Fields that the reconstructions and their matching have in common."""
    return {item.name: getattr(suite, item.name) for item in fields(Decoded)}


def _matcher(kind: str) -> tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The matcher of a domain, its packages, and words on those that are missing."""
    there, missing = installed((f"match_{kind}",))
    smact = {"smact": smact_digest()} if there and kind == "crystals" else {}
    return "".join(there), tuple(sorted((versions(there) | smact).items())), missing


def _error(name: str, samples: dict[str, np.ndarray]) -> float:
    """Standard error of a rate or a mean; NaN for quantiles."""
    if name in ("match_pct", "exact_pct"):
        return percentage(int((samples[name] > 0).sum()), len(samples[name]))[1]
    if name == "rmsd_matched":
        return mean(samples["rmsd_all"][samples["match_pct"] > 0])[1]
    return mean(samples[name])[1] if name in samples else math.nan
