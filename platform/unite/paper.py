"""Figures that the paper reports (arXiv 2603.22283), all as data for side-by-side reports.

`TABLES` holds them by table, row and metric; `counterpart` finds the figure that stands beside one
of ours. The paper's numbers are of ImageNet 256x256, QM9 and MP20: next to a run on other data they
are context, not a target, and `PaperFigure.source` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unite.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table or list of figures of the paper."""

    source: str
    """Table or section of the paper."""
    protocol: str
    """Data and method of the figures."""
    rows: Mapping[str, Mapping[str, float]]
    """Figures by row (a model or a setting) and metric. `_m` means 10^6, `_pct` per cent,
    `_mb` 10^6 bytes."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Key of our metric -> its name in `rows`. Empty: they are the same."""


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A number of the paper and its place there."""

    value: float
    source: str
    """Table or section, row and protocol."""

    @property
    def place(self) -> str:
        """Table or section alone."""
        return self.source.partition(",")[0]


TABLES: dict[str, Table] = {
    "imagenet256_generation": Table(
        source="Table 1",
        protocol="ImageNet 256x256, 50K samples, dopri5, best CFG scale",
        rows={
            # The paper adds 130.6M for every decoder; `params_m_true` are the counts of the code.
            "UNITE-B": {"params_m_reported": 217, "params_m_true": 217.6, "fid": 2.12, "is": 294.1},
            "UNITE-L": {"params_m_reported": 589, "params_m_true": 545.5, "fid": 1.73, "is": 296.0},
            "UNITE-XL": {
                "params_m_reported": 806,
                "params_m_true": 762.8,
                "fid": 1.75,
                "is": 309.9,
            },
        },
    ),
    "imagenet256_baselines": Table(
        source="Table 1",
        protocol="ImageNet 256x256, as published by their authors",
        rows={
            "JiT-B/16": {"params_m": 131, "fid": 3.66, "is": 275.1},
            "RIN": {"params_m": 410, "fid": 3.42, "is": 182.0},
            "JiT-L/16": {"params_m": 459, "fid": 2.36, "is": 298.5},
            "ADM-G": {"params_m": 554, "fid": 4.59, "is": 186.7},
            "PixelFlow-XL/4": {"params_m": 677, "fid": 1.98, "is": 282.1},
            "PixNerd-XL/16": {"params_m": 700, "fid": 2.15, "is": 297},
            "JiT-H/16": {"params_m": 953, "fid": 1.86, "is": 303.4},
            "SiD": {"params_m": 2000, "fid": 2.44, "is": 256.3},
            "VDM++": {"params_m": 2000, "fid": 2.12, "is": 267.7},
            "JiT-G/16": {"params_m": 2000, "fid": 1.82, "is": 292.6},
            "DiT-XL/2": {"params_m": 724, "fid": 2.27, "is": 278.2},
            "SiT-XL/2": {"params_m": 724, "fid": 2.06, "is": 277.5},
            "REPA-B": {"params_m": 179, "fid": 2.15, "is": 268.3},
            "RAE-B": {"params_m": 545, "fid": 2.08, "is": 275.1},
            "REPA-SiT-XL/2": {"params_m": 724, "fid": 1.42, "is": 305.7},
            "LightningDiT-XL/2": {"params_m": 724, "fid": 1.35, "is": 295.3},
            "DDT-XL/2": {"params_m": 724, "fid": 1.26, "is": 310.6},
            "RAE-DiT-DH-XL/2": {"params_m": 1254, "fid": 1.13, "is": 262.6},
            "LF-DiT-L": {"params_m": 465, "fid": 2.48},
        },
    ),
    "imagenet256_reconstruction": Table(
        source="Table 2",
        protocol="ImageNet 256x256 validation, base backbone, 120 epochs",
        rows={
            "UNITE-B": {"rfid": 1.01},
            "UNITE-B + GAN decoder fine-tuning": {"rfid": 0.51},
            "UNITE-B separate weights": {"rfid": 1.38},
            "SD-VAE": {"rfid": 0.62},
            "DC-AE-f32": {"rfid": 0.69},
            "RAE": {"rfid": 0.58},
            "VA-VAE": {"rfid": 0.28},
            "ViTok-B/16 stage 1": {"rfid": 1.63},
        },
    ),
    "qm9": Table(
        source="Table 3",
        protocol="QM9, 10K samples",
        names={
            "match_pct": "match_pct",
            "match_openbabel_pct": "match_pct",
            "rmsd_matched": "rmsd_angstrom",
            "valid_pct": "valid_pct",
            "unique_pct": "unique_pct",
        },
        rows={
            "UNITE-S": {
                "match_pct": 99.37,
                "rmsd_angstrom": 0.039,
                "valid_pct": 94.90,
                "unique_pct": 99.71,
            },
            "ADiT tokenizer": {"match_pct": 97.20, "rmsd_angstrom": 0.075},
            "ADiT-S QM9-only": {"valid_pct": 96.02, "unique_pct": 97.76},
            "GeoLDM": {"valid_pct": 93.8, "unique_pct": 92.9},
            "EDM": {"valid_pct": 91.9, "unique_pct": 90.7},
        },
    ),
    "evaluation_protocol": Table(
        source="Table 4",
        protocol="ImageNet 256x256, one UNITE-B checkpoint at 240 epochs",
        rows={
            "heun, 50 steps, balanced classes": {"nfe": 100, "fid": 2.789, "is": 287.6},
            "dopri5, balanced classes": {"nfe": 108, "fid": 2.735, "is": 268.1},
            "dopri5, random classes": {"nfe": 108, "fid": 2.885, "is": 274.7},
        },
    ),
    "mp20": Table(
        source="Table 5",
        protocol="MP20, 10K samples",
        names={
            "match_valid_pct": "match_pct",
            "struct_pct": "structural_pct",
            "comp_pct": "compositional_pct",
            "valid_pct": "overall_pct",
        },
        rows={
            "UNITE-S": {
                "structural_pct": 99.0,
                "compositional_pct": 89.9,
                "overall_pct": 87.9,
                "match_pct": 75.7,
            },
            "ADiT tokenizer": {"match_pct": 84.50},
            "ADiT MP20-only (DiT-B)": {
                "structural_pct": 99.6,
                "compositional_pct": 90.5,
                "overall_pct": 90.1,
            },
            "ADiT joint (DiT-B)": {
                "structural_pct": 99.7,
                "compositional_pct": 92.1,
                "overall_pct": 91.9,
            },
        },
    ),
    "ablation_reconstruction_noise": Table(
        source="Table 6, top",
        protocol="sigma of the reconstruction noise; ImageNet 256x256, base backbone, 120 epochs",
        rows={
            "0.0": {"fid": 2.87, "rfid": 1.09, "is": 281.1},
            "0.6": {"fid": 2.80, "rfid": 1.21, "is": 267.1},
            "0.7": {"fid": 2.71, "rfid": 1.01, "is": 282.2},
            "0.8": {"fid": 2.87, "rfid": 1.42, "is": 292.1},
            "1.0": {"fid": 6.58, "rfid": 1.60, "is": 275.7},
        },
    ),
    "ablation_noise_shift": Table(
        source="Table 6, bottom",
        protocol="timestep shift alpha; ImageNet 256x256, base backbone, 120 epochs",
        rows={
            "0.0": {"fid": 3.14, "rfid": 1.41, "is": 267.1},
            "0.5": {"fid": 2.71, "rfid": 1.01, "is": 282.2},
            "0.75": {"fid": 2.93, "rfid": 1.26, "is": 278.0},
        },
    ),
    "ablation_flow_ratio": Table(
        source="Figure 5 and Section 4",
        protocol="F, flow steps per reconstruction; shared weights, ImageNet 256x256",
        rows={"1": {"gfid": 3.33}, "14": {"gfid": 2.12}},
    ),
    "ablation_coupling": Table(
        source="Section 4",
        protocol="weight sharing and stop-gradient; ImageNet 256x256, base backbone",
        rows={
            "shared, stop-grad": {"gfid": 2.12, "rfid": 1.1},
            "separate, stop-grad": {"gfid": 2.60, "rfid": 1.30},
            "separate, no stop-grad": {"gfid": 2.24, "rfid": 0.85},
        },
    ),
    "entropy_mb": Table(
        source="Section 4",
        protocol="weight entropy of the Base encoder, 10^6 bytes; bins not given, 2048 fit",
        rows={
            "separate encoder at random init": {"total": 179.2, "norm": 60.0, "functional": 119.2},
            "separate encoder trained": {"total": 121.9, "norm": 30.7, "functional": 91.2},
            "separate denoiser trained": {"norm": 42.0},
            "shared trained": {"norm": 42.0, "functional": 90.8},
        },
    ),
    "compute": Table(
        source="Section 5.3",
        protocol="training FLOPs with gradient checkpointing, ImageNet 256x256",
        rows={
            # 3.5 TFLOP x 120 epochs x 1,281,167 images is 5.4e20: the total is about 25% above it.
            "UNITE-B": {"tflop_per_sample": 3.5, "epochs": 120, "total_flop": 6.7e20, "fid": 2.18},
            "DiT-XL/2": {"total_flop": 6.4e20},
            "JiT-G/16": {"total_flop": 8.8e20},
            "DINOv2 ViT-g/14 pretraining": {"total_flop": 1.0e22},
        },
    ),
    "linear_probe": Table(
        source="Section 7",
        protocol="linear probe on the latents, ImageNet, approximate",
        rows={"UNITE-B": {"top1_pct": 30}},
    ),
}

ENTROPY_BINS = 2048
"""Histogram bins of its weight entropy. It gives none; these reproduce its figures."""
DOPRI5_EVALUATIONS = int(TABLES["evaluation_protocol"].rows["dopri5, balanced classes"]["nfe"])
"""Evaluations per sample of the adaptive solver, for plans and progress lines."""

_SUITES: dict[str, tuple[str, str]] = {
    "generation": ("imagenet256_generation", "UNITE-B"),
    "reconstruction": ("imagenet256_reconstruction", "UNITE-B"),
    "entropy": ("entropy_mb", "shared trained"),
    "probe": ("linear_probe", "UNITE-B"),
    "compute": ("compute", "UNITE-B"),
    "molecules": ("qm9", "UNITE-S"),
    "crystals": ("mp20", "UNITE-S"),
}


ANALYSED = "images"
"""Kind of the samples of the models whose weights and costs the paper gives."""
SIZES = {(12, 768): "UNITE-B", (24, 1024): "UNITE-L", (28, 1152): "UNITE-XL"}
"""The paper's models by depth and width of their encoder."""
BASE = "UNITE-B"


def model_counterpart(metric: str, *, suite: str, config: RunConfig) -> PaperFigure | None:
    """The paper's figure for the model that is most like the one of `config`.

    L and XL have their own figures and separate weights theirs, which the paper gives for Base
    alone. Any other model stands beside Base, the smallest. None where it has no figure.
    """
    encoder = config.model.encoder
    size = SIZES.get((encoder.depth, encoder.width), BASE)
    if metric == "params_m":
        suite, metric = "imagenet256_generation", "params_m_reported"
    if config.model.sharing == "separate":
        return _separate(metric, suite, size, config.flow.stop_gradient)
    table, _ = _SUITES.get(suite, (suite, ""))
    return counterpart(metric, suite=table, row=size) if size in TABLES[table].rows else None


def _separate(metric: str, suite: str, size: str, stop_gradient: bool) -> PaperFigure | None:
    """Figures of two networks: Table 2 and, for what it lacks, Section 4."""
    if size != BASE or suite not in ("generation", "reconstruction"):
        return None
    if suite == "reconstruction" and stop_gradient:
        return counterpart(metric, suite=suite, row="UNITE-B separate weights")
    row = "separate, stop-grad" if stop_gradient else "separate, no stop-grad"
    name = "gfid" if metric == "fid" else metric
    return counterpart(name, suite="ablation_coupling", row=row)


def counterpart(metric: str, *, suite: str, row: str = "") -> PaperFigure | None:
    """The paper's figure for `metric` of an evaluation suite or a table; None where it has none.

    `suite` is a suite of the evaluation job (then `row` defaults to the paper's own Base model) or
    a key of `TABLES` (then `row` must be given). Metrics are matched without regard to case.
    ValueError for a table whose row is missing from the paper, which is always a typing error.
    """
    name, default_row = _SUITES.get(suite, (suite, ""))
    if name not in TABLES:
        return None
    table, row = TABLES[name], row or default_row
    if row not in table.rows:
        known = ", ".join(table.rows)
        raise ValueError(f"row: {row!r} is not in {table.source} of the paper; it has {known}")
    key = table.names.get(metric, "") if table.names else metric.lower()
    value = table.rows[row].get(key)
    if value is None:
        return None
    return PaperFigure(value=value, source=f"{table.source}, {row} ({table.protocol})")
