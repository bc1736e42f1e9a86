"""Axes of the ablations, each beside the paper's figures.

An axis is a table from a value to dotted overrides of a run's config. Arms repeat it under a second
condition, such as separate weights. `paper` says in which cell of `unite.paper.TABLES` a point's
counterpart stands, and a claim which of two points the paper finds better, so that a report can
agree or disagree. How long a trial is, and on what data, is the scale's matter (`scales.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from unite.config.scales import Fields, ScaleName

Role = Literal["generation", "reconstruction"]
Point = tuple[str, str]
"""Point of a figure: (arm, value)."""


class Cell(NamedTuple):
    """A figure's place in `unite.paper.TABLES`. Figures are FID or rFID: lower is better."""

    table: str
    row: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A second condition under which every value is tried."""

    name: str = ""
    fields: Fields = field(default_factory=dict)
    as_large_as: str = ""
    """Name of another arm: the encoder is widened until its trained parameters match."""
    values: Mapping[ScaleName, tuple[str, ...]] = field(default_factory=dict)
    """Values by scale for an expensive arm, fewer than the axis has; other scales have all."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding of the paper: the point `better` is better than the point `worse`."""

    role: Role
    better: Point
    worse: Point


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An ablation: the varied fields, the paper's figure or table, and its findings."""

    name: str
    figure: str
    """Stem of the files that are drawn."""
    source: str
    """Figure or table of the paper."""
    title: str
    label: str
    """Label of the horizontal axis, with its unit."""
    fields: Mapping[str, Fields]
    """Value -> overrides, in the order in which they are drawn."""
    values: Mapping[ScaleName, tuple[str, ...]] = field(default_factory=dict)
    """Values by scale where there are fewer; a scale that is not named has all."""
    arms: tuple[Arm, ...] = (Arm(),)
    paper: Mapping[Role, Mapping[Point, Cell]] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    remark: str = ""
    """Note for readers beside the paper's figures."""

    @property
    def trains(self) -> bool:
        """False when only sampling varies: then one training run serves every value."""
        return any(not name.startswith("sampling.") for row in self.fields.values() for name in row)

    @property
    def is_numeric(self) -> bool:
        """True if values have a place on a line, rather than being names."""
        return all(value.replace(".", "", 1).isdigit() for value in self.fields)

    def chosen(self, scale: ScaleName, wanted: Iterable[str] = ()) -> tuple[str, ...]:
        """The values to try, in the axis' order; none at a scale for which it has none.

        ValueError for a value that the axis does not have.
        """
        wanted = tuple(wanted)
        for value in wanted:
            if value not in self.fields:
                known = ", ".join(repr(each) for each in self.fields)
                raise ValueError(
                    f"--values {value!r} is not on axis {self.name}, which has {known}"
                )
        usual = self.values.get(scale, tuple(self.fields))
        chosen = (wanted or usual) if usual else ()
        return tuple(value for value in self.fields if value in chosen)


def _column(table: str, metric: str, rows: Mapping[str, str] | Iterable[str]) -> dict[Point, Cell]:
    """Cells of an axis without arms: value -> row, or rows that are named like the values."""
    named = rows if isinstance(rows, Mapping) else {row: row for row in rows}
    return {("", value): Cell(table, row, metric) for value, row in named.items()}


def _claim(role: Role, better: str, worse: str) -> Claim:
    return Claim(role=role, better=("", better), worse=("", worse))


SEPARATE: Fields = {"model.sharing": "separate"}

FLOW_RATIO = Axis(
    name="flow_ratio",
    figure="fig5",
    source="Figure 5",
    title="Flow steps per reconstruction, shared and separate weights",
    label="F, flow steps per reconstruction",
    fields={value: {"flow.steps": int(value)} for value in ("1", "2", "4", "7", "14")},
    values={
        "smoke": ("1", "2"),
        "laptop": ("1", "4", "14"),
        "molecules": ("1", "4", "14"),
    },
    arms=(
        Arm(name="shared"),
        Arm(name="separate", fields=SEPARATE),
        Arm(
            name="shared, as large as separate",
            as_large_as="separate",
            # Twice the encoder, twice the time: at F = 14 it would cost as much as both others.
            values={"smoke": ("1",), "laptop": ("4",), "molecules": ("4",)},
        ),
    ),
    paper={
        "generation": {
            ("shared", "1"): Cell("ablation_flow_ratio", "1", "gfid"),
            ("shared", "14"): Cell("ablation_flow_ratio", "14", "gfid"),
            ("separate", "14"): Cell("ablation_coupling", "separate, stop-grad", "gfid"),
        },
        "reconstruction": {
            ("shared", "14"): Cell("ablation_coupling", "shared, stop-grad", "rfid"),
            ("separate", "14"): Cell("ablation_coupling", "separate, stop-grad", "rfid"),
        },
    },
    claims=(
        Claim(role="generation", better=("shared", "14"), worse=("shared", "1")),
        Claim(role="generation", better=("shared", "14"), worse=("separate", "14")),
        Claim(role="reconstruction", better=("shared", "14"), worse=("separate", "14")),
    ),
    remark="The paper prints gFID at the ends of its shared curve; those of separate weights are "
    "Section 4's, whose F is not said (taken to be 14). The rest of Fig. 5 is only drawn.",
)

SIGMAS = ("0.0", "0.6", "0.7", "0.8", "1.0")
NOISE = Axis(
    name="noise",
    figure="table6_top",
    source="Table 6, top",
    title="Noise on the latent before the decoder",
    label="sigma, lowest t of the decoder's latent (0 = full noise, 1 = none)",
    fields={value: {"reconstruction_noise.sigma": float(value)} for value in SIGMAS},
    values={"smoke": ("0.0", "0.7")},
    paper={
        "generation": _column("ablation_reconstruction_noise", "fid", SIGMAS),
        "reconstruction": _column("ablation_reconstruction_noise", "rfid", SIGMAS),
    },
    claims=(
        _claim("generation", "0.7", "1.0"),
        _claim("generation", "0.7", "0.0"),
        _claim("reconstruction", "0.7", "1.0"),
    ),
)

ALPHAS = ("0.0", "0.5", "0.75")
SHIFT = Axis(
    name="shift",
    figure="table6_bottom",
    source="Table 6, bottom",
    title="Shift of the noise levels",
    label="alpha, timestep shift (0 = none)",
    fields={value: {"flow.shift": float(value)} for value in ALPHAS},
    values={"smoke": ("0.0", "0.5")},
    paper={
        "generation": _column("ablation_noise_shift", "fid", ALPHAS),
        "reconstruction": _column("ablation_noise_shift", "rfid", ALPHAS),
    },
    claims=(
        _claim("generation", "0.5", "0.0"),
        _claim("generation", "0.5", "0.75"),
        _claim("reconstruction", "0.5", "0.0"),
    ),
)

WEIGHT_SHARING = Axis(
    name="weight_sharing",
    figure="table2_sharing",
    source="Table 2, last row, and Section 4",
    title="One network for both tasks, or two",
    label="weights of tokenizer and denoiser",
    fields={"shared": {}, "separate": SEPARATE},
    paper={
        "generation": _column(
            "ablation_coupling",
            "gfid",
            {"shared": "shared, stop-grad", "separate": "separate, stop-grad"},
        ),
        "reconstruction": _column(
            "imagenet256_reconstruction",
            "rfid",
            {"shared": "UNITE-B", "separate": "UNITE-B separate weights"},
        ),
    },
    claims=(
        _claim("generation", "shared", "separate"),
        _claim("reconstruction", "shared", "separate"),
    ),
    remark="Separate weights hold a second encoder: more parameters at the same FLOPs.",
)

COUPLINGS = ("shared, stop-grad", "separate, stop-grad", "separate, no stop-grad")
STOP_GRAD = Axis(
    name="stop_grad",
    figure="stop_grad",
    source="Section 4",
    title="Weight sharing and stop-gradient",
    label="weights, and whether the flow loss reaches the latent",
    fields={
        "shared, stop-grad": {},
        "shared, no stop-grad": {"flow.stop_gradient": False},
        "separate, stop-grad": SEPARATE,
        "separate, no stop-grad": {**SEPARATE, "flow.stop_gradient": False},
    },
    values={"smoke": ("shared, stop-grad", "separate, no stop-grad")},
    paper={
        "generation": _column("ablation_coupling", "gfid", COUPLINGS),
        "reconstruction": _column("ablation_coupling", "rfid", COUPLINGS),
    },
    claims=(
        _claim("generation", "separate, no stop-grad", "separate, stop-grad"),
        _claim("reconstruction", "separate, no stop-grad", "separate, stop-grad"),
        _claim("generation", "shared, stop-grad", "separate, no stop-grad"),
    ),
    remark="The paper gives no figures for shared weights without stop-gradient.",
)

CFG_SCALES = tuple(f"{1 + step / 5:.1f}" for step in range(16))
CFG = Axis(
    name="cfg",
    figure="cfg",
    source="Appendix B and Table 8",
    title="Classifier-free guidance",
    label="w, guidance scale (1 = none)",
    fields={value: {"sampling.cfg_scale": float(value)} for value in CFG_SCALES},
    values={
        "smoke": ("1.0", "2.0"),
        "laptop": ("1.0", "1.2", "1.4", "2.0", "3.0", "4.0"),
        "molecules": (),  # they have no class to guide on
    },
    remark="The paper sweeps 1.0 to 4.0 in steps of 0.2 and reports the FID of its best scale "
    "alone (Table 1), so there is no curve to compare with.",
)

NO_BIAS: Fields = {"model.encoder.pair_bias": 0.0}
PAIRING = Axis(
    name="pairing",
    figure="pairing",
    source="not in the paper; METHOD 7",
    title="Means by which a register finds its atom",
    label="means beside the index table",
    fields={
        "pair bias": {},
        "rotary": {**NO_BIAS, "model.encoder.rotary": True},
        "neither": NO_BIAS,
    },
    # A question of atoms, one register for each: images have other registers than patches.
    values={"smoke": (), "laptop": (), "gpu": (), "paper": ()},
    remark="The paper does not say how UNITE-S pairs atoms and registers, so no finding of it is "
    "judged here.",
)

AXES: dict[str, Axis] = {
    axis.name: axis for axis in (FLOW_RATIO, NOISE, SHIFT, WEIGHT_SHARING, STOP_GRAD, CFG, PAIRING)
}


def find_axis(name: str) -> Axis:
    """An axis by its name or its script's (sweep_noise.py); ValueError suggests the nearest."""
    short = name.rsplit("/", 1)[-1].removesuffix(".py").removeprefix("sweep_")
    if short not in AXES:
        close = difflib.get_close_matches(short, AXES, n=2)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise ValueError(f"unknown axis {name!r}{hint} Axes: {', '.join(AXES)}")
    return AXES[short]
