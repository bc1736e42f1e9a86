"""The Frechet distance: ours against the general matrix root: python benchmarks/frechet.py [--help]

Headline: time of scipy's sqrtm of S1 S2 / time of ours with the reference's root cached (goal: at
least 10 at 2048 features), with values that agree within 1e-6 relative. Noise of the machine cannot
move it much: both arms run in one process on the same matrices in alternating rounds, and the
median of the per-round ratios counts.

Arms:
  sqrtm   |mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrtm(S1 S2)), as FID implementations commonly do
  ours    Gaussian.distance: eigenvalues of R^T S2 R, with R R^T = S1 made beforehand
The root is made once per reference; its time is shown beside. sqrtm's time depends on scipy's
version (1.17 came with a faster one), so the report names it.

  python benchmarks/frechet.py                 # 2048 features, a minute or two
  python benchmarks/frechet.py --dim 512
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import scipy
import scipy.linalg
import torch
import tyro

from unite.metrics.frechet import Gaussian, covariance_root

GOAL_SPEEDUP = 10.0
GOAL_DIFFERENCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    dim: int = 2048
    """Number of features."""
    samples: int = 5000
    """Samples behind each covariance; under `dim` they are rank-deficient."""
    rounds: int = 5
    """Number of rounds of each arm."""
    out: str = ""
    """Folder for a dated report; empty = print only."""


def features(options: Options, seed: int) -> np.ndarray:
    """Non-negative features with a falling spectrum in a mixed basis, as pooled activations are."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, options.dim + 1, dtype=float) ** -0.5
    mixing = np.random.default_rng(0).standard_normal((options.dim, options.dim))
    hidden = rng.standard_normal((options.samples, options.dim)) * scale
    return np.maximum(hidden @ mixing / options.dim**0.5 + 0.1 * seed, 0.0)


def gaussian(options: Options, seed: int) -> Gaussian:
    x = features(options, seed)
    return Gaussian(x.mean(axis=0), np.cov(x, rowvar=False))


def by_sqrtm(a: Gaussian, b: Gaussian) -> float:
    root = scipy.linalg.sqrtm(a.sigma_FF @ b.sigma_FF)
    shift = a.mu_F - b.mu_F
    return float(shift @ shift + np.trace(a.sigma_FF + b.sigma_FF - 2 * np.real(root)))


def main(options: Options) -> None:
    """Measure both arms and print, and write, the report."""
    reference, other = gaussian(options, 1), gaussian(options, 2)
    start = time.perf_counter()
    covariance_root(reference.sigma_FF)
    root_seconds = time.perf_counter() - start
    arms = {"sqrtm": by_sqrtm, "ours": Gaussian.distance}
    reference.distance(other)  # caches the root and warms up
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    values: dict[str, float] = {}
    for round_ in range(options.rounds):
        # Who goes first alternates, so that neither always finds warm caches.
        for name in sorted(arms, reverse=round_ % 2 == 1):
            start = time.perf_counter()
            values[name] = arms[name](reference, other)
            seconds[name].append(time.perf_counter() - start)
        print(f"round {round_}: " + ", ".join(f"{n} {s[-1]:.3f} s" for n, s in seconds.items()))
    ratios = [a / b for a, b in zip(seconds["sqrtm"], seconds["ours"], strict=True)]
    difference = abs(values["ours"] - values["sqrtm"]) / abs(values["sqrtm"])
    report = "\n".join(
        [
            f"# Frechet distance, {options.dim} features, {options.samples} samples",
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()} CPU, "
            f"{torch.get_num_threads()} threads, scipy {scipy.__version__}, torch "
            f"{torch.__version__}; median of {options.rounds} alternating rounds",
            "",
            "| arm | s | value |",
            "| --- | --- | --- |",
            *(
                f"| {name} | {statistics.median(seconds[name]):.3f} | {values[name]:.9f} |"
                for name in arms
            ),
            "",
            f"Speed-up: **{statistics.median(ratios):.1f}** ({min(ratios):.1f}..{max(ratios):.1f}; "
            f"goal at least {GOAL_SPEEDUP:.0f} at 2048). Relative difference: {difference:.1e} "
            f"(goal at most {GOAL_DIFFERENCE:.0e}). The root takes {root_seconds:.2f} s, once per "
            "reference.",
        ]
    )
    print("\n" + report)
    if options.out:
        path = Path(options.out) / f"{datetime.now(UTC):%Y-%m-%d}_frechet_{options.dim}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report + "\n")
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main(tyro.cli(Options))
