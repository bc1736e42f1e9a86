"""Tables in narrow terminals: names and numbers stay whole, notes wrap."""

import pytest

from unite.tables import markdown_lines, table_lines

HEADINGS = ("metric", "value", "N", "note")
SHORT = ("PSNR", "33", "297", "dB")
LONG = ("precision-a-data-set-with-quite-a-long-name-cnn", "0.5", "50,000", "std 0.1")
NOTED = (
    "nfe",
    "50",
    "3,000",
    "a long remark that wraps in a narrow terminal, more than once",
)


def printed(width, *rows):
    return table_lines(HEADINGS, [("generation",), *rows], width, right=(1, 2))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_name_or_number_is_cut(width):
    lines = printed(width, SHORT, LONG, NOTED)
    text = "\n".join(lines)
    for row in (SHORT, LONG, NOTED):
        assert all(cell in text for cell in row[:-1])
    assert " ".join(" ".join(line.split()) for line in lines[-8:]).count("remark") == 1
    assert max(map(len, lines)) <= max(width, len(LONG[0]))


def test_a_long_name_has_a_line_of_its_own_in_80_columns():
    row = ("precision-a-data-set-with-a-truly-very-long-name-of-its-own-cnn", *LONG[1:])
    lines = printed(80, SHORT, row)
    (place,) = (i for i, line in enumerate(lines) if row[0] in line)
    assert lines[place] == row[0]
    assert lines[place + 1].split() == ["0.5", "50,000", "std", "0.1"]


def test_columns_of_a_wide_terminal():
    assert printed(100, SHORT, NOTED) == [
        "metric  value      N  note",
        "generation",
        "PSNR       33    297  dB",
        f"nfe        50  3,000  {NOTED[-1]}",
    ]


def test_notes_wrap_under_their_column():
    lines = printed(60, NOTED)
    start = lines[-1].index(lines[-1].strip())
    assert lines[0].index("note") == start
    assert " ".join(line[start:].strip() for line in lines[2:]) == NOTED[-1]


def test_a_last_column_may_be_empty():
    assert table_lines(("field", "a", ""), [("flow.steps", "14", "")], 100) == [
        "field        a",
        "flow.steps  14",
    ]


def test_a_table_in_markdown():
    assert markdown_lines(("arm", "seeds"), [("control", 3), ("GE, trained", 2)]) == [
        "| arm | seeds |", "| --- | --- |", "| control | 3 |", "| GE, trained | 2 |",
    ]  # fmt: skip
