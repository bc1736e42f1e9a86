"""Trees, tars, tars of tars and parquet of the same content become the same data set."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.ingest.classes import Naming
from unite.data.ingest.images import ImagesIngest, open_source
from unite.data.ingest.prepare import describe_plan, plan
from unite.data.ingest.source import Source
from unite.data.manifest import ShardError


@dataclass
class Forms:
    """One content in every form in which it can come."""

    root: Path
    picture: Callable[[int], bytes]

    def tree(self, split: str = "train") -> Path:
        """Three classes, one empty; an image that is none, and what systems leave in folders."""
        place = self.root / "tree" / split
        if place.exists():
            return place
        first = 0 if split == "train" else 100
        for number, name in enumerate(("ant", "bee")):
            (place / name).mkdir(parents=True)
            for index in range(3):
                data = self.picture(first + 10 * number + index)
                (place / name / f"{index}.JPEG").write_bytes(data)
        (place / "cow").mkdir()
        (place / "bee" / "broken.JPEG").write_bytes(b"no image")
        (place / "bee" / ".0.JPEG").write_bytes(self.picture(0))
        return place

    def tar(self, tree: Path, name: str = ".") -> Path:
        """The tree packed at once, under a name."""
        with tarfile.open(self.root / "one.tar", "w") as archive:
            archive.add(tree, name)
        return self.root / "one.tar"

    def tars(self, tree: Path, folder: str = "") -> Path:
        """A tar of one tar per class, as ImageNet's training set is."""
        with tarfile.open(self.root / "many.tar", "w") as outer:
            for place in sorted(tree.iterdir()):
                inner = io.BytesIO()
                with tarfile.open(fileobj=inner, mode="w") as part:
                    for file in sorted(place.iterdir()):
                        part.add(file, file.name)
                info = tarfile.TarInfo(f"{folder}{place.name}.tar")
                info.size = inner.tell()
                outer.addfile(info, io.BytesIO(inner.getvalue()))
        return self.root / "many.tar"

    def parquet(self, tree: Path, name: str = "train-00000-of-00001.parquet") -> Path:
        """The rows with their class names, and a file that macOS left."""
        names = sorted(place.name for place in tree.iterdir())
        files = [f for n in names for f in sorted((tree / n).iterdir()) if f.name[0] != "."]
        table = pa.table(
            {
                "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
                "label": [names.index(file.parent.name) for file in files],
            }
        )
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        folder = self.root / "parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": info}), folder / name)
        (folder / f"._{name.rpartition('/')[2]}").write_bytes(b"left by macOS")
        return folder


@pytest.fixture
def forms(tmp_path, picture) -> Forms:
    return Forms(tmp_path, picture)


def content(shards, rows_of) -> tuple:
    rows = sorted((row["label"], row["image"]) for row in rows_of(shards))
    return shards.class_names, rows, dict(sorted(shards.manifest.skipped.items()))


def test_every_form_of_one_content_is_the_same_data_set(forms, prepare, rows_of):
    tree = forms.tree()
    forms.tree("val")
    expected = content(prepare(tree), rows_of)
    assert expected[0] == ("ant", "bee", "cow")
    assert [label for label, _ in expected[1]] == [0, 0, 0, 1, 1, 1]
    assert expected[2] == {"hidden or a system's own": 1, "not a readable image": 1}
    for source in (
        tree.parent,
        forms.tar(tree),
        forms.tar(tree, "some/folder"),
        forms.tar(tree.parent),
        forms.tar(tree.parent, "imagenet"),
        forms.tars(tree),
        forms.tars(tree, "train/"),
    ):
        assert content(prepare(source), rows_of) == expected, source
    parquet = forms.parquet(tree)
    assert content(prepare(parquet), rows_of) == expected
    forms.parquet(tree.parent / "val", "animals-validation.parquet")
    assert content(prepare(parquet), rows_of) == expected
    held_out = content(prepare(tree.parent, split="eval"), rows_of)
    assert held_out[1] != expected[1]
    assert content(prepare(parquet, split="eval"), rows_of)[:2] == held_out[:2]


def test_splits_of_parquet_in_folders(forms, prepare, rows_of):
    tree = forms.tree()
    folder = forms.parquet(tree, "train/0.parquet")
    forms.parquet(forms.tree("val"), "validation/0.parquet")
    for split, origin in (("train", tree), ("eval", tree.parent / "val")):
        rows = content(prepare(folder, split=split), rows_of)[1]
        assert rows == content(prepare(origin, split=split), rows_of)[1]


def listed(place: Path, split: str = "train", **naming) -> Source:
    return open_source(str(place), split, 100, Naming(**naming))


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def both(root: Path, split: str = "train") -> list[Source]:
    """A tree and the tar of it, listed."""
    packed = root.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(root, ".")
    sources = [listed(root, split), listed(packed, split)]
    one, other = ((s.num_rows, s.class_names, s.skipped, s.notes) for s in sources)
    assert one == other
    return sources


def test_stray_folders_are_no_classes(tmp_path):
    root = write(tmp_path / "x", "ant/0.JPEG", "bee/0.jpg", "__MACOSX/ant/._0.JPEG", "docs/a.txt")
    write(root, "ant/.ipynb_checkpoints/0-checkpoint.jpg", "ant/Thumbs.db", "bee/.1.JPEG")
    for name in (".ipynb_checkpoints", "lost+found", "@eaDir", "$RECYCLE.BIN"):
        (root / name).mkdir()
    for source in both(root):
        assert source.class_names == ("ant", "bee")
        assert source.skipped == {"hidden or a system's own": 8, "not an image file": 1}
        assert any(".ipynb_checkpoints" in note and "4 more" in note for note in source.notes)
        assert "no classes, because no images lie in them: docs" in source.notes


def test_a_folder_of_the_system_that_may_not_be_read_is_not_entered(tmp_path):
    root = write(tmp_path / "x", "ant/0.JPEG", "lost+found/0.JPEG")
    (root / "lost+found").chmod(0)
    assert listed(root).class_names == ("ant",)
    (root / "lost+found").chmod(0o700)


def test_root_of_train_and_val(tmp_path):
    root = write(tmp_path / "x", "train/ant/0.JPEG", "train/bee/0.JPEG", "val/ant/0.JPEG")
    for source in both(root):
        assert (source.num_rows, source.class_names) == (2, ("ant", "bee"))
        assert source.notes == ("classes are the folders of train; val beside train not taken",)
    for source in both(root, "eval"):
        assert source.num_rows == 1


def test_class_folders_with_folders_inside(tmp_path):
    root = write(tmp_path / "x", "ant/images/0.JPEG", "bee/images/0.JPEG", "bee/boxes.txt")
    for source in both(root):
        assert source.class_names == ("ant", "bee")
        assert source.notes == ()
    write(root, "ant/red/0.JPEG")
    for source in both(root):
        assert source.num_rows == 3
        assert source.notes == ("images lie deeper than their class, such as ant/images/0.JPEG",)


def test_splits_within_each_class(tmp_path):
    root = write(tmp_path / "x", "ant/train/0.JPEG", "bee/train/0.JPEG", "ant/test/0.JPEG")
    for source in both(root):
        assert (source.num_rows, source.class_names, source.skipped) == (2, ("ant", "bee"), {})
        assert source.notes == ("of the folders test, train in each class, train is taken",)
    for source in both(root, "eval"):
        assert (source.num_rows, source.class_names) == (1, ("ant",))
    write(root, "bee/truth/0.png")
    with pytest.raises(ShardError, match="each class holds the splits test, train .* truth, which"):
        both(root)


def test_classes_that_are_numbers_are_said_where_text_sorts_them_otherwise(tmp_path):
    found = listed(write(tmp_path / "a", "2/0.png", "10/0.png", "1/0.png"))
    assert found.class_names == ("1", "10", "2")
    (note,) = [each for each in found.notes if "as text" in each]
    assert "class 1 has label 0; with leading zeros (01)" in note
    for names in (("0/0.png", "1/0.png"), ("01/0.png", "10/0.png"), ("2/0.png", "10a/0.png")):
        notes = listed(write(tmp_path / names[-1][:2], *names)).notes
        assert not any("as text" in note for note in notes)


def test_what_lies_beside_the_classes_is_counted(tmp_path):
    root = write(tmp_path / "x", "train/ant/0.JPEG", "val/ant/0.JPEG", "logo.png", "train/1.png")
    for source in both(root):
        assert source.skipped == {"image in no class folder": 2}
        assert any(note.startswith("one class only, ant") for note in source.notes)


def test_a_source_whose_name_says_another_split(tmp_path):
    root = write(tmp_path / "val", "ant/0.JPEG", "bee/0.JPEG")
    assert listed(root, "eval").notes == ()
    assert listed(root).notes == (
        "val is prepared as split 'train', though its name says validation",
    )


def test_packed_data_one_level_down_is_named(tmp_path):
    root = write(tmp_path / "x", "data/0.parquet")
    with pytest.raises(ShardError, match="it holds data/0.parquet: name that, or its folder"):
        listed(root)


def test_held_out_of_the_same_files_is_said(forms, prepare, tmp_path):
    tree, out = forms.tree(), str(tmp_path / "out")
    forms.tree("val")
    prepare(tree, out=out)
    again = ImagesIngest(source=str(tree), out=out, split="eval", original=True)
    assert f"{out} has split train of the same files" in describe_plan(plan(again))
    assert "warning" not in describe_plan(plan(replace(again, split="train")))
    other = ImagesIngest(source=str(tree.parent), out=out, split="eval", original=True)
    assert "warning" not in describe_plan(plan(other))
    assert "3 classes (ant, bee, cow)" in describe_plan(plan(other))
    root_of_both = replace(other, out=str(tmp_path / "both"))
    prepare(tree.parent, out=root_of_both.out)
    assert "warning" not in describe_plan(plan(root_of_both))


def test_a_list_of_labels_in_a_root_of_splits(tmp_path):
    root = write(tmp_path / "x", "train/0.JPEG", "train/1.JPEG", "test/0.JPEG")
    (tmp_path / "list.csv").write_text("0.JPEG,ant\n1.JPEG,bee\n")
    source = listed(root, labels_file=str(tmp_path / "list.csv"))
    assert (source.num_rows, source.class_names) == (2, ("ant", "bee"))
