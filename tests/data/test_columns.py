"""Columns of foreign parquet files: by which name and of which type they are taken or refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import plan
from unite.data.shards import MISSING, ShardError, ShardSet
from unite.domains.columns import IMAGES

FILE = "train-0.parquet"
CELLS = pa.array([b"0", b"1", b"2"])
STRUCTS = [{"bytes": cell.as_py(), "path": "a.png"} for cell in CELLS]
LABELS = pa.array([2, 0, 1])


def write(folder, file=FILE, **columns) -> None:
    pq.write_table(pa.table(columns), folder / file)


# Names that data sets have on the Hugging Face Hub.
@pytest.mark.parametrize("image", ["image", "img", "jpg", "webp", "png", "pixel_values"])
@pytest.mark.parametrize("label", ["label", "labels", "class", "cls", "fine_label"])
def test_usual_names_are_taken_and_said(tmp_path, image, label) -> None:
    write(tmp_path, **{image: STRUCTS, label: LABELS, "coarse_label": LABELS, "id": LABELS})
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert shards.read(0).column_names == ["image", "label", "row_id"]
    assert shards.read(0).column("image").to_pylist() == CELLS.to_pylist()
    assert shards.labels().tolist() == [2, 0, 1]
    taken = {"image": image, "label": label}.items()
    said = ", ".join(f"{name} from {other}" for name, other in taken if name != other)
    assert shards.notes == ((f"columns: {said}",) if said else ())


def test_class_names_are_those_of_the_column_that_is_taken(tmp_path) -> None:
    features = {"fine_label": {"names": ["a", "b", "c"]}, "coarse_label": {"names": ["x"]}}
    table = pa.table({"img": CELLS, "fine_label": LABELS, "coarse_label": [0, 0, 0]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / FILE)
    assert ShardSet.open(tmp_path, "train", IMAGES).class_names == ("a", "b", "c")


def test_the_own_name_comes_before_others(tmp_path) -> None:
    write(tmp_path, image=CELLS, img=STRUCTS, label=LABELS, fine_label=pa.array([7, 7, 7]))
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert shards.labels().tolist() == [2, 0, 1] and shards.notes == ()


def test_two_names_that_fit_are_an_error_that_names_them(tmp_path) -> None:
    write(tmp_path, jpg=CELLS, webp=CELLS, label=LABELS)
    with pytest.raises(ShardError, match=r"train-0.parquet: the columns jpg, webp can each be the"):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_of_two_names_the_one_whose_type_fits_is_taken(tmp_path) -> None:
    write(tmp_path, img=STRUCTS, pixel_values=[[0.5]] * 3, cls=LABELS, labels=["a", "b", "c"])
    assert ShardSet.open(tmp_path, "train", IMAGES).notes == (
        "columns: image from img, label from cls",
    )


REFUSED_LABELS = {
    "string": pa.array(["cat", "dog", "cat"]),
    "double": pa.array([0.0, 1.5, 2.0]),
    "bool": pa.array([True, False, True]),
    "null": pa.nulls(3),
    "list<element: int64>": pa.array([[0], [1], [2]]),
    "dictionary<values=string, indices=int32, ordered=0>": pa.array(
        ["cat", "dog", "cat"]
    ).dictionary_encode(),
}


@pytest.mark.parametrize("kind", REFUSED_LABELS)
def test_labels_of_another_type_are_refused_in_one_line(tmp_path, kind) -> None:
    write(tmp_path, image=CELLS, label=REFUSED_LABELS[kind])
    with pytest.raises(ShardError) as training:
        ShardSet.open(tmp_path, "train", IMAGES)
    with pytest.raises(ShardError) as preparing:
        plan(ImagesIngest(source=str(tmp_path), out=str(tmp_path / "out"), size=8))
    message = str(training.value)
    assert message == str(preparing.value) and "\n" not in message
    assert f"{FILE}: the column label is of type {kind}, but must hold whole numbers" in message


@pytest.mark.parametrize("image", [["a.png"] * 3, [[1, 2]] * 3, [{"path": "a.png"}] * 3])
def test_pictures_of_another_type_are_refused(tmp_path, image) -> None:
    write(tmp_path, image=image, label=LABELS)
    with pytest.raises(ShardError, match="column image is of type .* bytes of image files"):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_every_shard_is_looked_at(tmp_path) -> None:
    for number in range(3):
        labels = LABELS if number < 2 else pa.array(["a", "b", "c"])
        write(tmp_path, f"train-{number}.parquet", image=CELLS, label=labels)
    with pytest.raises(ShardError, match="train-2.parquet: the column label is of type string"):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_shards_agree_on_names_but_not_on_widths(tmp_path) -> None:
    write(tmp_path, "train-0.parquet", img=STRUCTS, label=LABELS.cast(pa.int8()))
    write(tmp_path, "train-1.parquet", img=CELLS.cast(pa.large_binary()), label=LABELS)
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert shards.read(1).to_pydict()["image"] == shards.read(0).to_pydict()["image"]
    assert shards.labels().tolist() == [2, 0, 1] * 2
    write(tmp_path, "train-2.parquet", image=CELLS, label=LABELS)
    expected = "train-2.parquet has the image in the column image, .*train-0.parquet in img"
    with pytest.raises(ShardError, match=expected):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_a_dictionary_counts_as_its_values(tmp_path) -> None:
    labels = pa.array([7, 3, 7]).dictionary_encode()
    write(tmp_path, image=CELLS.dictionary_encode(), label=labels)
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert shards.read(0).column("label").to_pylist() == [7, 3, 7] == shards.labels().tolist()
    assert shards.read(0).column("image").to_pylist() == CELLS.to_pylist()


def test_missing_labels_are_marked(tmp_path) -> None:
    write(tmp_path, image=CELLS, label=pa.array([2, None, 1]))
    assert ShardSet.open(tmp_path, "train", IMAGES).labels().tolist() == [2, MISSING, 1]


def test_a_file_without_rows_needs_no_types(tmp_path) -> None:
    write(tmp_path, image=CELLS, label=LABELS)
    write(tmp_path, "train-1.parquet", image=[], label=[])
    assert ShardSet.open(tmp_path, "train", IMAGES).num_rows == 3
