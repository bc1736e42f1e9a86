"""Data sets of several folders: their names, files and refusals."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.manifest import ShardError
from unite.data.parts import absolute, each_part, parts_of, place_of, require_domains
from unite.data.shards import ShardSet
from unite.domains.columns import Column
from unite.storage import Store

COLUMNS = ("a", Column(name="b", optional=True), Column(name="c", optional=True))


@pytest.fixture
def both(tmp_path) -> str:
    for name, column, rows in (("one", "b", 5), ("two", "c", 3)):
        (tmp_path / name).mkdir()
        cells = [bytes([number]) for number in range(rows)]
        pq.write_table(pa.table({"a": cells, column: cells}), tmp_path / name / "train-0.parquet")
    return f"{tmp_path}/one::{tmp_path}/two"


def test_a_set_of_one_folder_is_as_before(tmp_path):
    assert parts_of("shards/a") == ["shards/a"]
    assert place_of(str(tmp_path), "sub/a.parquet") == (Store.open(tmp_path), "sub/a.parquet")


def test_each_folder_gets_its_own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert each_part(absolute, "a::b") == f"{tmp_path}/a::{tmp_path}/b"
    assert place_of("a::b", "1/c/d") == (Store.open("b"), "c/d")


def test_rows_follow_each_other_and_what_a_file_lacks_is_null(both):
    shards = ShardSet.open(both, "train", COLUMNS)
    assert shards.num_rows == 8 and len(shards.row_groups) == 2
    first, second = (shards.read(number) for number in range(2))
    assert first["row_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert second["row_id"].to_pylist() == [5, 6, 7]
    assert first["c"].null_count == 5 and second["b"].null_count == 3
    assert second["c"].to_pylist() == second["a"].to_pylist()
    assert pa.concat_tables([first.select(second.column_names), second]).num_rows == 8


def test_the_digest_is_of_both_folders_in_their_order(both):
    found = {
        ShardSet.open(uri, "train", COLUMNS).digest
        for uri in (both, "::".join(reversed(both.split("::"))), both.split("::")[0])
    }
    assert len(found) == 3


def test_a_folder_without_a_manifest_is_no_part(both):
    with pytest.raises(ShardError, match=r"one has no manifest\.json.*holds molecules"):
        require_domains(both, ("molecules", "crystals"), "recipe x")
    with pytest.raises(ShardError, match="reads molecules, a folder of each, but .* names 2"):
        require_domains(both, ("molecules",), "recipe x")
