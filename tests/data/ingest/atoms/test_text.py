"""SDF and XYZ as other programs write them: drawings, byte order marks, odd characters, packing."""

import gzip
import io

import pytest

from unite.data.ingest.atoms.molecules import QM9Ingest
from unite.data.ingest.atoms.rows import Faults
from unite.data.ingest.atoms.text import sdf_records, xyz_frames

WATER = [("O", 0.0, 0.0), ("H", 0.96, 0.0), ("H", -0.24, 0.93)]
XYZ = "3\nwater\n" + "".join(f"{symbol} {x} {y} 0.0\n" for symbol, x, y in WATER)


def sdf(dimensions: str, height: float = 0.0) -> str:
    """A record of water in the plane of x and y, its last atom so high."""
    heights = (0.0, 0.0, height)
    atoms = [
        f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0"
        for (symbol, x, y), z in zip(WATER, heights, strict=True)
    ]
    head = ["water", f"     RDKit          {dimensions}", "", "  3  2  0  0  0  0  0999 V2000"]
    bonds = ["  1  2  1  0", "  1  3  1  0", "M  END", "$$$$"]
    return "\n".join([*head, *atoms, *bonds, ""])


def ingest(tmp_path, name: str, content: bytes) -> QM9Ingest:
    (tmp_path / name).write_bytes(content)
    return QM9Ingest(source=str(tmp_path / name), out=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("dimensions", "height", "drawn"),
    [("2D", 0.0, True), ("2D", 0.4, False), ("3D", 0.0, False), ("", 0.0, False)],
)
def test_a_record_that_is_a_drawing_is_no_geometry(tmp_path, dimensions, height, drawn):
    text = sdf(dimensions, height)
    ((_, cells),) = sdf_records(io.BytesIO(text.encode()), Faults())
    assert ("drawn" in cells) == drawn
    if drawn:
        with pytest.raises(ValueError, match="^drawn: .* says 2D"):
            ingest(tmp_path, "x.sdf", b"").parse(cells)


@pytest.mark.parametrize("odd", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028"])
def test_a_comment_may_hold_what_unicode_calls_the_end_of_a_line(odd):
    faults = Faults()
    names = [name for name, _ in xyz_frames(XYZ.replace("water", f"w{odd}x") + XYZ, faults)]
    assert names == ["w", "water"] if odd.isspace() else [f"w{odd}x", "water"]
    assert not faults.counts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(end):
    faults = Faults()
    assert len(list(xyz_frames((XYZ + XYZ).replace("\n", end), faults))) == 2
    assert len(list(xyz_frames((XYZ + XYZ).replace("\n", end).rstrip(), faults))) == 2
    assert not faults.counts


CSV = "Index,SMILES,Elements,XYZ_Ang\n" + "".join(
    f'{index},O,"O,H,H","0,0,0,.96,0,0,-.24,.93,0"\n' for index in range(200_000, 200_003)
)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("x.xyz", b"\xef\xbb\xbf" + XYZ.encode(), 1),
        ("x.xyz", XYZ.replace("water", "\xe9au").encode("latin-1"), 1),
        ("x.xyz.gz", gzip.compress(XYZ.encode()), 1),
        ("x.sdf", b"\xef\xbb\xbf" + sdf("3D").encode(), 1),
        ("x.SDF.GZ", gzip.compress(sdf("3D").encode()), 1),
        ("x.csv", b"\xef\xbb\xbf" + CSV.encode(), 3),
        ("x.csv.gz", gzip.compress(CSV.encode()), 3),
    ],
    ids=["marked xyz", "latin xyz", "xyz.gz", "marked sdf", "sdf.gz", "marked csv", "csv.gz"],
)
def test_marks_other_encodings_of_comments_and_packing_are_read(tmp_path, name, content, rows):
    faults = Faults()
    found = list(ingest(tmp_path, name, content).rows(faults))
    assert len(found) == rows and not faults.counts
    assert "\ufeff" not in found[0].id
    assert [part.strip() for part in found[0].cells["elements"].split(",")] == ["O", "H", "H"]
