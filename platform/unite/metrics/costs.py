"""Costs of a run: parameters, FLOPs and throughput (METHOD 5; paper Section 5.3).

Pure arithmetic on figures that are counted or measured elsewhere, under the names and in the units
of the paper's table (`unite.paper`, suite "compute").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ComputeInputs:
    """Figures of a run; None where nothing was measured."""

    parameters: Mapping[str, int]
    """Trained parameters by part, without their sum."""
    flop_per_sample: Mapping[str, float]
    """FLOPs of one training sample by term (forward, backward and recompute)."""
    samples_seen: int | None
    """Training samples, over all epochs; None for a model that is only planned."""
    epochs: float
    """Passes over the training set."""
    images_per_s: float | None = None
    """Measured training throughput of all devices together."""
    num_devices: int = 1
    """Devices that the throughput was measured on."""
    mfu: float | None = None
    """Share, 0 to 1, of the devices' matmul rate that training used, as it measured it."""

    def __post_init__(self) -> None:
        if (self.samples_seen or 0) < 0 or self.num_devices < 1:
            raise ValueError(
                f"samples_seen, num_devices: {self.samples_seen}, {self.num_devices}; they must be "
                "at least 0 and 1"
            )


def compute_table(inputs: ComputeInputs) -> dict[str, float]:
    """Rows of the compute suite by name, in the unit that the name ends with.

    Rows that need a measurement are absent without it. `_m` is 10^6; `mfu` is a share, 0 to 1.
    """
    per_sample = sum(inputs.flop_per_sample.values())
    table = {
        "params_m": sum(inputs.parameters.values()) / 1e6,
        **{f"params_{part}_m": count / 1e6 for part, count in inputs.parameters.items()},
        "tflop_per_sample": per_sample / 1e12,
        **{f"tflop_{term}": flop / 1e12 for term, flop in inputs.flop_per_sample.items()},
    }
    if inputs.samples_seen is None:
        return table
    table |= {"epochs": inputs.epochs, "total_flop": per_sample * inputs.samples_seen}
    if inputs.images_per_s is not None:
        table["images_per_s"] = inputs.images_per_s
        if inputs.images_per_s > 0:
            seconds = inputs.samples_seen / inputs.images_per_s
            table["device_hours"] = seconds * inputs.num_devices / 3600
    if inputs.mfu is not None:
        table["mfu"] = inputs.mfu
    return table
