"""Metrics that stand for generation and reconstruction, of any domain and extractor."""

from __future__ import annotations

import pytest

from unite.ablation.roles import LATENT_STD, judged_by, like, shown_names
from unite.metrics.specs import SPECS, Spec

GENERATION, RECONSTRUCTION = "eval/generation", "eval/reconstruction"
IMAGES = [
    f"{GENERATION}/fd-pixels", f"{GENERATION}/fd-digits-cnn", f"{GENERATION}/cs-digits-cnn",
    f"{GENERATION}/recall-pixels", f"{RECONSTRUCTION}/rfd-pixels", f"{RECONSTRUCTION}/psnr",
    f"{RECONSTRUCTION}/l1", LATENT_STD,
]  # fmt: skip
MOLECULES = [
    f"{GENERATION}/w1_bonds", f"{GENERATION}/valid_strict_pct", f"{RECONSTRUCTION}/match_pct",
    LATENT_STD,
]  # fmt: skip


@pytest.mark.parametrize(
    ("role", "names", "kind", "found"),
    [
        ("generation", IMAGES, "images", IMAGES[:2]),
        ("reconstruction", IMAGES, "images", [f"{RECONSTRUCTION}/rfd-pixels"]),
        ("reconstruction", IMAGES[5:], "images", [f"{RECONSTRUCTION}/psnr"]),
        ("reconstruction", [f"{RECONSTRUCTION}/rfid", *IMAGES], "images", ["rfid"]),
        ("generation", MOLECULES, "molecules", MOLECULES[:1]),
        ("generation", MOLECULES[1:], "molecules", MOLECULES[1:2]),
        ("reconstruction", MOLECULES, "molecules", MOLECULES[2:3]),
        ("generation", [], "images", [f"{GENERATION}/fd"]),
        ("reconstruction", [], "images", [f"{RECONSTRUCTION}/psnr"]),
        ("reconstruction", [], "molecules", [f"{RECONSTRUCTION}/match_pct"]),
    ],
)
def test_a_role_is_judged_by_the_first_metric_that_was_measured(role, names, kind, found):
    expected = [name if "/" in name else f"{RECONSTRUCTION}/{name}" for name in found]
    assert judged_by(role, names, kind) == expected


def test_figures_show_the_columns_of_the_report_and_the_latents():
    shown = shown_names(IMAGES, trains=True, kind="images")
    assert shown == [*IMAGES[:3], *IMAGES[4:6], LATENT_STD]
    assert shown_names(IMAGES, trains=False, kind="images") == IMAGES[:3]
    assert shown_names(MOLECULES, trains=True, kind="molecules") == MOLECULES


def test_what_the_paper_has_finds_its_like_on_any_extractor():
    assert like("gFID", IMAGES) == IMAGES[:2]
    assert like("IS", IMAGES) == [IMAGES[2]]
    assert like("rFID", MOLECULES) == []


def test_a_domain_of_its_own_needs_nothing_but_its_row(monkeypatch):
    row = Spec(
        family="reconstruction", key="closeness", meaning="minus the mean distance",
        better="higher", column="runs", judges=1, logged=True, domains=("points",),
    )  # fmt: skip
    monkeypatch.setitem(SPECS, (row.family, row.key), row)
    name = f"{RECONSTRUCTION}/closeness"
    assert judged_by("reconstruction", [], "points") == [name]
    assert shown_names([name], trains=True, kind="points") == [name, LATENT_STD]
