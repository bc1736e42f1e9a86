"""The suites of molecules and crystals: samples, reconstruction, and those of every domain.

There is no probe: samples have no classes.
"""

from __future__ import annotations

from unite.config.domains import CrystalsConfig, JointConfig, MoleculesConfig
from unite.evaluation.suites.registry import HERE, SHARED, Entries, Entry, refusal_of, suites_for

SAMPLING = ("num_samples", "solver", "num_steps", "pose_samples")


@suites_for.register(MoleculesConfig)
@suites_for.register(CrystalsConfig)
def _(domain: object) -> Entries:
    return {
        "generation": Entry(f"{HERE}.atoms_generation:Generation", SAMPLING),
        "reconstruction": Entry(f"{HERE}.atoms_reconstruction:Reconstruction", ("num_images",)),
        **_shared(),
    }


@suites_for.register(JointConfig)
def _(domain: object) -> Entries:
    """Those of every domain alone."""
    return _shared()


@refusal_of.register(JointConfig)
def _(domain: object, suite: str) -> str:
    if suite not in suites_for.dispatch(MoleculesConfig)(None):
        return ""
    return (
        f"{suite} judges molecules alone or crystals alone, beside the truth of their held-out "
        "set, and this model has both. A run of one kind (recipes qm9, mp20) has it"
    )


def _shared() -> Entries:
    return {name: entry for name, entry in SHARED.items() if name != "probe"}
