"""Names: what is foreign, which split a name says, and where class folders begin."""

import pytest

from unite.data.manifest import ShardError
from unite.data.names import class_root, foreign_part, is_foreign, select_files, split_of


@pytest.mark.parametrize(
    "name",
    [
        *(".ipynb_checkpoints", "__MACOSX", "lost+found", "._x.JPEG", ".DS_Store", "Thumbs.db"),
        *("@eaDir", "$RECYCLE.BIN", ".hidden.JPEG", "System Volume Information", "desktop.ini"),
    ],
)
def test_foreign_names(name):
    assert is_foreign(name)
    assert foreign_part(f"a/{name}/b/{name}") == f"a/{name}"


@pytest.mark.parametrize("name", ["n01440764", "_a", "a.b", "lost", "MACOSX", "x~.jpg"])
def test_names_of_a_data_set(name):
    assert not is_foreign(name)
    assert foreign_part(f"{name}/{name}") == ""


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("train-00000-of-00008.parquet", "train"),
        ("cifar10-train.parquet", "train"),
        ("cifar10_TEST.parquet", "test"),
        ("Train-0.parquet", "train"),
        ("part-0.train.parquet", "train"),
        ("train2017.parquet", "train"),
        ("training.parquet", "train"),
        ("x.valid.0.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("split=val/0.parquet", "validation"),
        ("eval-0.parquet", "eval"),
        ("Testing/0.parquet", "test"),
        ("train-test-split/validation-0.parquet", "validation"),
        ("test/part-train.parquet", "train"),
        ("val_validation.parquet", "validation"),
        ("restraint.parquet", ""),
        ("latest.parquet", ""),
        ("contest-0.parquet", ""),
        ("device.parquet", ""),
        ("data.parquet", ""),
    ],
)
def test_split_of_a_name(path, said):
    assert split_of(path) == said


def test_a_name_that_says_two_splits():
    with pytest.raises(ShardError, match="a/train-test.parquet says test and train; rename it"):
        split_of("a/train-test.parquet")


def test_files_of_a_split():
    mixed = ["x-test.parquet", "x-train.parquet", "more.parquet", "x-val.parquet"]
    chosen, notes = select_files(mixed, "eval", "folder")
    assert chosen == ["x-val.parquet"]
    assert notes == (
        "split eval is what is named validation; not taken: more.parquet, x-test.parquet",
    )
    assert select_files(mixed, "train", "folder") == (
        ["x-train.parquet"],
        ("split train is what is named train; not taken: more.parquet",),
    )
    assert select_files(mixed[:2], "eval", "folder") == (["x-test.parquet"], ())
    assert select_files(["b", "a"], "eval", "folder") == (["a", "b"], ())
    with pytest.raises(
        ShardError, match="no shards of split 'train': no split: a.parquet; test: b_test.parquet"
    ):
        select_files(["a.parquet", "b_test.parquet"], "train", "folder")
    with pytest.raises(ShardError, match=r"train-0 and training-0 both say 'train'.*alike"):
        select_files(["train-0", "training-0", "train-1"], "train", "folder")
    assert len(select_files(["Train-0", "train-1", "TRAIN-2"], "train", "folder")[0]) == 3


def root_of(folders: list[str], split: str = "train") -> str:
    root, _ = class_root({tuple(folder.split("/")) for folder in folders}, split, "DIR")
    return "/".join(root)


@pytest.mark.parametrize(
    ("folders", "root"),
    [
        (["cat", "dog"], ""),
        (["cat"], ""),
        (["cat/images"], ""),
        (["cat/images", "dog/images"], ""),
        (["set/cat", "set/dog"], "set"),
        (["train/cat"], "train"),
        (["train/cat", "train/dog", "val/cat", "val/dog"], "train"),
        (["Data/CLS-LOC/train/cat", "Data/CLS-LOC/val"], "Data/CLS-LOC/train"),
        (["train/set/cat", "train/set/dog", "test/set/cat"], "train/set"),
        (["ILSVRC2012_img_train/cat", "ILSVRC2012_img_val/cat"], "ILSVRC2012_img_train"),
        (["Training/cat", "Validation/cat", "testing/cat"], "Training"),
        # A class may be called so: CIFAR-100 has trains.
        (["plane", "train", "ship"], ""),
        (["electric_train", "steam_train"], ""),
        (["pregnancy_test", "thermometer"], ""),
        (["1", "2"], ""),
    ],
)
def test_where_classes_begin(folders, root):
    assert root_of(folders) == root


def test_the_split_that_is_asked_for_is_taken_and_said():
    folders = {("train", "cat"), ("val", "cat"), ("test", "cat")}
    assert class_root(folders, "eval", "DIR") == (
        ("val",),
        ("classes are the folders of val; test, train beside val not taken",),
    )
    assert root_of(["train/cat", "test/cat"], "eval") == "test"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/a", "val/a", "cat"], "DIR holds the splits train, val and beside them cat"),
        (["train1/a", "train2/a", "val/a"], "DIR/train1 and DIR/train2 are both of split 'train'"),
        (["train1/a", "train2/a"], "DIR/train1 and DIR/train2 are both of split 'train'"),
        (["val/a", "test/a"], "DIR holds no folder of split 'train', only test, val"),
        (["x/test/a", "x/test/b"], "DIR/x holds no folder of split 'train', only test"),
    ],
)
def test_folders_that_do_not_say_which_is_meant(folders, message):
    with pytest.raises(ShardError, match=message):
        root_of(folders)
