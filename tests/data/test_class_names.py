"""Class names in the metadata of several files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.manifest import ShardError
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES


@pytest.fixture
def folder(tmp_path):
    def make(**names_by_file: list[str] | None):
        for file, names in names_by_file.items():
            table = pa.table({"image": [b"x"], "label": [0]})
            if names is not None:
                features = {"label": {"names": names, "_type": "ClassLabel"}}
                info = json.dumps({"info": {"features": features}})
                table = table.replace_schema_metadata({"huggingface": info})
            pq.write_table(table, tmp_path / f"{file}.parquet")
        return tmp_path

    return make


def test_all_files_are_looked_at(folder):
    assert ShardSet.open(folder(a=None, b=["ant", "bee"], c=None), "train", IMAGES).class_names == (
        "ant",
        "bee",
    )


def test_no_file_has_names(folder):
    assert ShardSet.open(folder(a=None), "train", IMAGES).class_names is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ["bee", "ant"],
            r"a.parquet names 2 .* b.parquet 2, and from label 0 on .*'ant' and 'bee'",
        ),
        (["ant", "bee", "cow"], r"names 2 .* b.parquet 3, and from label 2 on .*none and 'cow'"),
    ],
)
def test_files_that_number_classes_differently(folder, other, message):
    with pytest.raises(ShardError, match=message):
        ShardSet.open(folder(a=["ant", "bee"], b=other), "train", IMAGES)
