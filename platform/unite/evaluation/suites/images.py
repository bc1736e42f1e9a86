"""The suites of images: fidelity of samples and reconstructions, and those of every domain."""

from __future__ import annotations

from unite.config.schema import ImagesConfig
from unite.evaluation.suites.registry import HERE, SHARED, Entries, Entry, suites_for

SAMPLING = (
    *("num_samples", "labels", "solver", "num_steps", "cfg_scale", "cfg_interval"),
    *("cfg_sweep", "cfg_adaptive", "reference", "extractor"),
)


@suites_for.register
def _(domain: ImagesConfig) -> Entries:
    return {
        "generation": Entry(f"{HERE}.images_generation:Generation", SAMPLING),
        "reconstruction": Entry(
            f"{HERE}.images_reconstruction:Reconstruction", ("extractor", "num_images")
        ),
        **SHARED,
    }
