from unite.domains.atoms.elements import COLOURS, MAX_ELEMENTS, RADII, SYMBOLS, formula


def test_tables_have_a_row_for_each_element():
    assert len(SYMBOLS) == len(RADII) == len(COLOURS) == MAX_ELEMENTS
    assert [SYMBOLS[number] for number in (1, 6, 26, 92, 99)] == ["H", "C", "Fe", "U", "Es"]
    assert [round(float(RADII[number]), 2) for number in (1, 6, 7, 8, 9, 26, 92)] == [
        *(0.31, 0.76, 0.71, 0.66, 0.57),
        *(1.32, 1.96),
    ]


def test_formula_has_carbon_then_hydrogen_then_the_alphabet():
    assert formula([8, 1, 6, 1, 1, 1]) == "CH4O"
    assert formula([17, 11]) == "ClNa"
    assert formula([1, 8, 1]) == "H2O"
