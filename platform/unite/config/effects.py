"""Table, for every command, of options that act only under other options.

An option that does nothing is refused where a user gave it. What comes from a recipe or from the
run's own config is never refused: nobody asked for it here, and it acts again once the other
option changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from unite.config.schema import RunConfig, SamplingConfig, Solver
from unite.config.serialise import diff, flatten
from unite.config.validate import sampling_problems

NUM_CLASSES = "domain.num_classes"
Values = Mapping[str, Any]
"""Dotted field of RunConfig -> value."""


@dataclass(frozen=True)
class Condition:
    """Condition under which a field acts, as a function and in words."""

    needs: str
    holds: Callable[[Values], bool]


def _chosen(field: str, *values: Any) -> Condition:
    return Condition(f"{field} {' or '.join(values)}", lambda given: given[field] in values)


def _above(field: str, bound: float) -> Condition:
    return Condition(f"{field} above {bound:g}", lambda given: given[field] > bound)


def _on(field: str) -> Condition:
    return Condition(f"{field} true", lambda given: bool(given[field]))


FIXED_STEPS = _chosen("sampling.solver", *(each for each in get_args(Solver) if each != "dopri5"))
ADAPTIVE = _chosen("sampling.solver", "dopri5")
CLASSES = Condition(
    "classes, which the samples of this domain do not have",
    lambda given: given.get(NUM_CLASSES, 0) > 0,
)
IMAGES = Condition("images alone", lambda given: given["domain.kind"] == "images")
LPIPS = Condition(
    "images and loss.reconstruction_weight above 0",
    lambda given: IMAGES.holds(given) and given["loss.reconstruction_weight"] > 0,
)
NOISED = _above("reconstruction_noise.probability", 0)
SEVERAL_WORKERS = Condition(
    "cluster.num_workers above 1", lambda given: given["cluster.num_workers"] != 1
)
TRACKED = _on("tracking.enabled")
ACTS_WHEN: Mapping[str, Condition] = {
    "sampling.num_steps": FIXED_STEPS,
    "sampling.atol": ADAPTIVE,
    "sampling.rtol": ADAPTIVE,
    "sampling.cfg_scale": CLASSES,
    "sampling.cfg_interval": _above("sampling.cfg_scale", 1),
    "optim.plateau_epochs": _chosen("optim.schedule", "plateau"),
    "optim.lr_min": _chosen("optim.schedule", "cosine"),
    "optim.muon_momentum": _on("optim.muon"),
    "optim.muon_eps": _on("optim.muon"),
    "flow.t_mean": _chosen("flow.timesteps", "logit_normal"),
    "flow.t_std": _chosen("flow.timesteps", "logit_normal"),
    "flow.class_dropout": CLASSES,
    "flow.reduction": _above("flow.steps", 1),
    "flow.warmup_fraction": _above("flow.weight", 0),
    "reconstruction_noise.form": NOISED,
    "reconstruction_noise.sigma": NOISED,
    "loss.perceptual.weight": LPIPS,
    "loss.perceptual.input_range": _above("loss.perceptual.weight", 0),
    "model.encoder.in_context_start": _above("model.encoder.in_context_tokens", 0),
    "model.encoder.patch_positions": IMAGES,
    "training.accumulation": Condition(
        "training.micro_batch 0", lambda given: given["training.micro_batch"] == 0
    ),
    "training.exchange": SEVERAL_WORKERS,
    "training.fit": _on("cluster.use_gpu"),
    "training.graphs": _on("cluster.use_gpu"),
    "training.kernels": _on("cluster.use_gpu"),
    "tracking.uri": TRACKED,
    "tracking.experiment": TRACKED,
    "tracking.run_name": TRACKED,
}
"""Field -> condition under which it acts. A field that is not here always acts."""


def without_effect(values: Values, given: Iterable[str]) -> dict[str, str]:
    """Given fields that do nothing under `values` -> the condition that they need."""
    conditions = {name: ACTS_WHEN[name] for name in given if name in ACTS_WHEN}
    return {name: each.needs for name, each in conditions.items() if not each.holds(values)}


def require_effect(config: RunConfig, base: RunConfig) -> None:
    """ValueError for fields in which a config was changed from `base` and that do nothing."""
    values = flatten(config)
    useless = without_effect(values, [name for name, _, _ in diff(base, config)])
    if useless:
        lines = (f"  {_refusal(name, values[name], needs)}" for name, needs in useless.items())
        raise ValueError("options without effect:\n" + "\n".join(lines))


def refuse_changed(arguments: Any, names: Iterable[str], why: str) -> None:
    """ValueError for the first of the named options that differs from its class's default.

    `why` ends the sentence "--option value has no effect ...".
    """
    usual = {item.name: item.default for item in dataclasses.fields(arguments)}
    for name in names:
        value = getattr(arguments, name)
        if value != usual[name]:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {_shown(value)} has no effect {why}: leave it out")


def override(
    own: SamplingConfig,
    given: Mapping[str, Any],
    *,
    num_classes: int = 1,
    scale_is_searched: bool = False,
) -> SamplingConfig:
    """A run's own sampling settings with a user's values in their place.

    `given` maps fields of SamplingConfig to values; `num_classes` is the domain's, 0 = no guidance.
    ValueError for values out of range, and for what has no effect; a search for the guidance scale
    goes through scales at which all of it acts.
    """
    settings = dataclasses.replace(own, **given)
    problems = list(sampling_problems(settings))
    values = {f"sampling.{item}": value for item, value in flatten(settings).items()}
    values[NUM_CLASSES] = num_classes
    if scale_is_searched:
        values["sampling.cfg_scale"] = float("inf")
    useless = without_effect(values, [f"sampling.{name}" for name in given])
    problems += [_refusal(name, values[name], needs) for name, needs in useless.items()]
    if problems:
        raise ValueError("; ".join(problem.replace("sampling.", "") for problem in problems))
    return settings


def _refusal(name: str, value: Any, needs: str) -> str:
    flag = name.replace("_", "-")
    cure = "" if needs in (CLASSES.needs, IMAGES.needs) else ", or give that too"
    return f"--{flag} {_shown(value)} has no effect: it acts with {needs}. Leave it out{cure}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
