import json
import re

import numpy as np
import pytest

from unite.domains.atoms.elements import RADII
from unite.domains.atoms.picture import BALL, SMALLEST_SPAN
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.native import Verdict
from unite.sampling.atoms.page import page


def data_of(text: str) -> dict:
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S)[1])


def made(structures, verdicts) -> str:
    words = {"title": "a <run>", "lead": "Two samples."}
    return page(structures, range(len(structures)), verdicts, **words, tolerance_of=lambda _: 0.25)


def test_a_page_holds_structures_verdicts_and_no_address(textbook_molecules, textbook_crystals):
    numbers, positions = textbook_molecules["methane"]
    cell = {k: np.array(v) for k, v in textbook_crystals["CsCl"].items()}
    structures = [
        Structure(numbers=np.array(numbers), positions=np.array(positions)),
        Structure(positions=cell["frac"] * 4.123, **cell),
    ]
    text = made(structures, [Verdict(True, "valid"), Verdict(False, "invalid", "</script> ions")])
    data = data_of(text)
    assert [each["cells"][:4] for each in data["samples"]] == [
        [0, "CH4", 5, "valid"],
        [1, "ClCs", 2, "invalid"],
    ]
    assert data["samples"][0]["bonds"] == [[0, 1], [0, 2], [0, 3], [0, 4]]
    assert [len(each["edges"]) for each in data["samples"]] == [0, 12]
    assert set(data["elements"]) == {"1", "6", "17", "55"}
    balls = {int(number): ball for number, (_, ball) in data["elements"].items()}
    assert balls == {n: pytest.approx(0.15 + BALL * RADII[n], abs=5e-4) for n in balls}
    assert balls[1] < balls[6] < balls[55]
    assert "a &lt;run&gt;" in text
    assert not re.search(r"https?:|src=|@import", text)
    assert len(re.findall(r"<script>(.*?)</script>", text, re.S)[0]) < 100_000


def test_what_is_not_finite_leaves_an_empty_picture():
    broken = Structure(numbers=np.array([6]), positions=np.full((1, 3), np.nan))
    assert (
        data_of(made([broken], [Verdict(False, "invalid", "not finite")]))["samples"][0]["atoms"]
        == []
    )


def test_one_atom_does_not_fill_its_picture():
    atom = Structure(numbers=np.array([6]), positions=np.zeros((1, 3)))
    (sample,) = data_of(made([atom], [Verdict(True, "valid")]))["samples"]
    assert sample["reach"] == SMALLEST_SPAN / 2
