"""Costs of a run: parameters, FLOPs and throughput (METHOD 5; paper Section 5.3).

Pure arithmetic on figures that are counted or measured elsewhere, under the names and in the units
of the paper's table (`unite.paper`, suite "compute").
"""

from __future__ import annotations

from collections.abc import Mapping


def compute_table(
    *,
    parameters: Mapping[str, int],
    flop_per_sample: Mapping[str, float],
    samples_seen: int | None,
    epochs: float,
    images_per_s: float | None = None,
    num_devices: int | None = 1,
    mfu: float | None = None,
) -> dict[str, float]:
    """Rows of the compute suite by name, in the unit that the name ends with.

    Rows that need a measurement are absent without it. `_m` is 10^6; `mfu` is a share, 0 to 1.

    Args:
        parameters: trained parameters by part, without their sum.
        flop_per_sample: FLOPs of one training sample by term (forward, backward and recompute).
        samples_seen: training samples, over all epochs; None for a model that is only planned.
        epochs: passes over the training set.
        images_per_s: measured training throughput of all devices together.
        num_devices: devices that the throughput was measured on; None when their number varied.
        mfu: share of the devices' matmul rate that training used, as it measured it.
    """
    per_sample = sum(flop_per_sample.values())
    table = {
        "params_m": sum(parameters.values()) / 1e6,
        **{f"params_{part}_m": count / 1e6 for part, count in parameters.items()},
        "tflop_per_sample": per_sample / 1e12,
        **{f"tflop_{term}": flop / 1e12 for term, flop in flop_per_sample.items()},
    }
    if samples_seen is None:
        return table
    table |= {"epochs": epochs, "total_flop": per_sample * samples_seen}
    if images_per_s is not None:
        table["images_per_s"] = images_per_s
        if images_per_s > 0 and num_devices is not None:
            table["device_hours"] = samples_seen / images_per_s * num_devices / 3600
    if mfu is not None:
        table["mfu"] = mfu
    return table
