"""The metric card: a number together with everything that it depends on.

Two numbers may be compared when their cards agree on the protocol, that is on every field but the
outcome, the time and the checkpoint (`OUTCOMES`). Suites leave fields at their default that have
no meaning for them, and put what only they have into `details`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unite.config.serialise import json_digest
from unite.metrics.errors import MetricError

OUTCOMES = frozenset({"value", "step", "checkpoint", "nfe"})
"""Fields that may differ between comparable numbers. NFE is an outcome: dopri5's follows from the
model, the other solvers' from `solver`, `num_steps` and guidance, which are compared."""
LATER = frozenset({"reference_encoding"})
"""Fields that older cards lack. They say in words what a digest on the card identifies already:
they are not part of the protocol, and an empty one is no difference."""


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """A number and its protocol. Digests identify content; empty = does not apply."""

    metric: str
    """True name of the metric: fid, fd-small, psnr, ..."""
    value: float
    step: int
    """Training images that the checkpoint has seen."""
    suite: str
    """Suite: generation, reconstruction, alignment, ..."""
    checkpoint: str
    """Digest of the checkpoint."""
    weights: Literal["ema", "raw"] = "ema"
    """Weights that were measured: the average (ema), or those of the last step (raw)."""
    data: str = ""
    """Digest of the images that were evaluated, where a suite reads images."""
    reference: str = ""
    """Digest of the reference statistics."""
    reference_made: str = ""
    """Origin of the reference statistics: data, images, rule."""
    reference_encoding: str = ""
    """Format in which the real images were stored: jpeg-95, webp-lossless, png, original bytes,
    unknown. Empty = not noted, as on older cards."""
    extractor: str = ""
    extractor_digest: str = ""
    resize: str = ""
    """Rule by which the extractor changes an image's size and range."""
    uint8_rule: str = ""
    """Rule by which images in [0, 1] become uint8."""
    label_sampling: str = ""
    """balanced, uniform, or the labels' source."""
    num_samples: int = 0
    """Number of samples N."""
    solver: str = ""
    num_steps: int = 0
    """Intervals of a fixed-step solver; 0 for dopri5."""
    atol: float = 0.0
    rtol: float = 0.0
    """Tolerances of dopri5; 0 for fixed steps."""
    step_control: str = ""
    """dopri5: per sample (a sample's result does not depend on its batch) or per batch."""
    nfe: float = 0.0
    """Evaluations of the model per sample, mean, guidance not counted."""
    cfg_scale: float = 1.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    """Interval of t, both ends excluded, in which guidance acts."""
    cfg_order: str = ""
    """Predictions that guidance combines: after the final normalisation, or before."""
    seed: int = 0
    precision: str = "float32"
    """Precision of the model's arithmetic."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that the number depends on: bins, noise levels, k, ... JSON values."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise MetricError(f"{self.metric} = {self.value}: it could not be computed")
        # As JSON gives them back, so that a card equals itself after a round trip.
        plain = json.loads(json.dumps({"versions": dict(self.versions), "details": self.details}))
        object.__setattr__(self, "versions", plain["versions"])
        object.__setattr__(self, "details", plain["details"])
        object.__setattr__(self, "cfg_interval", tuple(self.cfg_interval))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> MetricCard:
        """Inverse of `to_dict`, also after JSON; MetricError for fields that do not fit."""
        try:
            return cls(**content)
        except TypeError as error:
            raise MetricError(f"this is no metric card of this version: {error}") from error

    def of_many(self) -> dict[str, Any]:
        """Fields shared by many numbers of one protocol, such as a curve: no name, no value."""
        content = self.to_dict()
        return {name: content[name] for name in content if name not in ("metric", "value")}

    def to_json(self) -> str:
        """The card as one line of JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> MetricCard:
        """Inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    def protocol(self) -> dict[str, Any]:
        """Fields that must be equal for numbers to be compared, nested ones by dotted name."""
        return _flat(self, OUTCOMES | LATER)

    def protocol_digest(self) -> str:
        """Identity of the protocol: equal for comparable cards (16 digits)."""
        return json_digest(self.protocol())

    def digest(self) -> str:
        """Identity of the whole card, value included (16 digits)."""
        return json_digest(_flat(self, frozenset()))


def differences(a: MetricCard, b: MetricCard) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (value in a, value in b) wherever two protocols differ.

    A detail that one of them lacks is None.
    """
    mine, yours = _flat(a, OUTCOMES), _flat(b, OUTCOMES)
    names = [*mine, *(name for name in yours if name not in mine)]
    pairs = {name: (mine.get(name), yours.get(name)) for name in names}
    found = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return {name: pair for name, pair in found.items() if not (name in LATER and "" in pair)}


def comparable(a: MetricCard, b: MetricCard) -> bool:
    """True if two numbers were made by one protocol."""
    return not differences(a, b)


def _flat(card: MetricCard, ignore: Collection[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in card.to_dict().items():
        if name in ignore:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": value[key] for key in sorted(value)}
        else:
            flat[name] = value
    return flat
