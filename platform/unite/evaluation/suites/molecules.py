"""The suites of molecules and crystals: samples, reconstruction, and those of every domain.

There is no probe: samples have no classes, and those of a joint model no other than the kind.
"""

from __future__ import annotations

from unite.config.domains import CrystalsConfig, JointConfig, MoleculesConfig
from unite.evaluation.suites.registry import HERE, SHARED, Entries, Entry, suites_for

SAMPLING = ("num_samples", "solver", "num_steps", "pose_samples")
IMAGES = ("num_images",)


@suites_for.register(MoleculesConfig)
@suites_for.register(CrystalsConfig)
def _(domain: object) -> Entries:
    return {
        "generation": Entry(f"{HERE}.atoms_generation:Generation", SAMPLING),
        "reconstruction": Entry(f"{HERE}.atoms_reconstruction:Reconstruction", IMAGES),
        **_shared(),
    }


@suites_for.register(JointConfig)
def _(domain: object) -> Entries:
    """Generation and reconstruction of each part."""
    sampling = (*SAMPLING, "cfg_scale", "cfg_interval")
    return {
        "generation-molecules": Entry(f"{HERE}.joint:MoleculesGeneration", sampling),
        "generation-crystals": Entry(f"{HERE}.joint:CrystalsGeneration", sampling),
        "reconstruction-molecules": Entry(f"{HERE}.joint:MoleculesReconstruction", IMAGES),
        "reconstruction-crystals": Entry(f"{HERE}.joint:CrystalsReconstruction", IMAGES),
        **_shared(),
    }


def _shared() -> Entries:
    return {name: entry for name, entry in SHARED.items() if name != "probe"}
