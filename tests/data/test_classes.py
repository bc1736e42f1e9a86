"""Labels against the classes of a model: refused, warned of, or in order."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data import classes, shards
from unite.data.classes import count_classes
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.drivers.train import check_data


def write(folder, labels, *, file="train-0.parquet", names=()) -> ShardSet:
    table = pa.table({"image": [b"x"] * len(labels), "label": pa.array(labels, pa.int64())})
    if names:
        info = {"info": {"features": {"label": {"names": list(names)}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, folder / file, row_group_size=4)
    return ShardSet.open(folder, "train", IMAGES)


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_fewer_classes_than_the_model_has(tmp_path, names) -> None:
    counts = count_classes(write(tmp_path, [0, 1, 2] * 20, names=names), 10)
    assert counts.counts.tolist() == [20, 20, 20] + [0] * 7
    said = counts.warning()
    assert "7 of the 10 classes of domain.num_classes never occur in" in said
    assert "(3, 4, 5, 6, 7, 8, 9): 7 of 10 samples with balanced classes" in said
    assert said.endswith("train with --domain.num-classes 3") and "\n" not in said
    # Of 25 samples, 3 are of each of the classes 0..4 and 2 of each other one.
    assert ": 16 of the 25 samples with balanced classes" in counts.warning(25)


def test_classes_missing_between_others(tmp_path) -> None:
    said = count_classes(write(tmp_path, [0, 2]), 3).warning()
    assert said.endswith("number the 2 classes that occur 0..1, and train with that many")


def test_every_class_occurs(tmp_path) -> None:
    assert count_classes(write(tmp_path, [1, 0, 2]), 3).warning() == ""


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            range(1, 11),
            "1 row with labels outside 0..9 .* the labels are 1..10: they count from 1",
        ),
        ([0, 12, 12], "2 rows .* the labels are 0..12: set --domain.num-classes 13"),
        ([-1, -1, 3], "2 rows .* the labels are -1..3: leave rows without a label out"),
        ([*range(1, 10), 10, None], "1 row .* the labels are 1..10: they count from 1"),
    ],
)
def test_labels_outside_the_range_are_refused(tmp_path, labels, said) -> None:
    with pytest.raises(ValueError, match=said):
        count_classes(write(tmp_path, list(labels)), 10)


def test_more_names_than_classes(tmp_path) -> None:
    with pytest.raises(ValueError, match="has 3 classes; set --domain.num-classes 3"):
        count_classes(write(tmp_path, [0, 1], names="abc"), 2)


def test_rows_without_a_label_are_left_to_the_count_of_bad_rows(tmp_path) -> None:
    counts = count_classes(write(tmp_path, [0, None, 1]), 2)
    assert counts.counts.tolist() == [1, 1] and counts.num_rows == 3


def test_a_huge_set_is_looked_at_in_evenly_spaced_shards(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(classes, "MOST_LABELS", 8)
    for number in range(6):
        found = write(tmp_path, [number] * 4, file=f"train-{number}.parquet")
    counts = count_classes(found, 7)
    assert counts.counts.tolist() == [4, 0, 0, 4, 0, 0, 0]
    assert "never occur in the 8 rows looked at of" in counts.warning()


def test_labels_are_read_once(tmp_path, monkeypatch) -> None:
    read, read_column = [], shards.read_whole_column

    def counted(uri, file, column):
        read.append(file)
        return read_column(uri, file, column)

    monkeypatch.setattr(shards, "read_whole_column", counted)
    found = write(tmp_path, [0, 1])
    count_classes(found, 2)
    count_classes(ShardSet.open(tmp_path, "train", IMAGES), 10)
    assert read == ["train-0.parquet"]


def test_a_domain_without_labels_has_no_classes_to_count(tmp_path) -> None:
    pq.write_table(pa.table({"points": [[0.5]]}), tmp_path / "train-0.parquet")
    assert count_classes(ShardSet.open(tmp_path, "train", ("points",)), 2) is None


def test_training_refuses_the_labels_of_either_split(tmp_path) -> None:
    write(tmp_path, list(range(10)))
    write(tmp_path, [10], file="test-0.parquet")
    config = replace(recipe("cifar10-small"), {"data.train": str(tmp_path)})
    with pytest.raises(ValueError, match="1 row with labels outside 0..9"):
        check_data(config)
