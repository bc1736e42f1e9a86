"""Links and odd entries of a tree, and of the tar that it is packed into."""

import io
import os
import tarfile

import pytest

from unite.data.ingest.classes import Naming
from unite.data.ingest.images import open_source
from unite.data.ingest.listing import list_tree
from unite.storage import Store


@pytest.fixture
def root(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.jpg").write_bytes(name.encode())
    return tmp_path / "set"


def pack(root):
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, ".")
    return root.with_suffix(".tar")


def rows(place):
    source = open_source(str(place), "train", 100, Naming())
    records = [record for part in source.parts for record in part.records()]
    return (
        sorted((r.path, r.cells["image"], r.cells["label"]) for r in records),
        source.class_names,
        source.skipped,
    )


def test_links_are_followed_in_a_tree_and_in_its_tar(root):
    (root / "ant" / "1.jpg").symlink_to("../bee/0.jpg")
    (root / "ant" / "2.jpg").symlink_to("1.jpg")
    (root / "cow").symlink_to("bee")
    (root / "doe").symlink_to("cow")
    os.link(root / "bee" / "0.jpg", root / "bee" / "1.jpg")
    assert rows(root) == rows(pack(root))
    found, classes, skipped = rows(root)
    assert classes == ("ant", "bee", "cow", "doe")
    assert skipped == {}
    assert [row for row in found if row[0].startswith("ant")] == [
        ("ant/0.jpg", b"ant", 0),
        ("ant/1.jpg", b"bee", 0),
        ("ant/2.jpg", b"bee", 0),
    ]
    assert ("bee/1.jpg", b"bee", 1) in found
    assert ("doe/1.jpg", b"bee", 3) in found


def test_links_that_cannot_be_followed_are_counted(root):
    (root / "ant" / "1.jpg").symlink_to("absent.jpg")
    (root / "ant" / "2.jpg").symlink_to("2.jpg")
    (root / "ant" / "up").symlink_to("..")
    (root / "ant" / "here").symlink_to(".")
    os.mkfifo(root / "ant" / "pipe.jpg")
    assert rows(root) == rows(pack(root))
    found, classes, skipped = rows(root)
    assert (len(found), classes) == (2, ("ant", "bee"))
    assert skipped == {
        "link that leads nowhere": 2,
        "link to a folder that it lies in": 2,
        "neither file nor folder": 1,
    }


def test_a_link_to_a_hidden_file_is_followed(root):
    """As git-annex keeps its files."""
    (root / ".annex").mkdir()
    (root / ".annex" / "blob").write_bytes(b"kept aside")
    (root / "ant" / "1.jpg").symlink_to("../.annex/blob")
    assert rows(root) == rows(pack(root))
    assert ("ant/1.jpg", b"kept aside", 0) in rows(root)[0]


def test_a_link_out_of_a_tree_is_followed_and_out_of_a_tar_is_not(root, tmp_path):
    (tmp_path / "outside.jpg").write_bytes(b"outside")
    (root / "ant" / "1.jpg").symlink_to("../../outside.jpg")
    (root / "ant" / "2.jpg").symlink_to(tmp_path / "outside.jpg")
    assert ("ant/2.jpg", b"outside", 0) in rows(root)[0]
    found, _, skipped = rows(pack(root))
    assert len(found) == 2
    assert skipped == {"link that leads nowhere": 2}


def test_entries_that_lead_out_of_a_tar_and_files_that_are_there_twice(root, tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        archive.add(root, "set")
        archive.add(root / "bee" / "0.jpg", "set/ant/0.jpg")
        archive.add(root / "bee" / "0.jpg", "../ant/1.jpg")
        absolute = archive.gettarinfo(root / "bee" / "0.jpg")
        absolute.name = "/set/ant/2.jpg"  # as `tar -P` has it
        archive.addfile(absolute, io.BytesIO(b"bee"))
    found, _, skipped = rows(tmp_path / "odd.tar")
    assert [(path, data) for path, data, _ in found] == [
        ("set/ant/0.jpg", b"bee"),
        ("set/ant/2.jpg", b"bee"),
        ("set/bee/0.jpg", b"bee"),
    ]
    assert skipped == {
        "path that leads out of the tar": 1,
        "replaced by a later file of its name in the tar": 1,
    }


def test_names_that_are_not_utf8(root):
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    with open(os.fsencode(root) + b"/caf\xe9/0.jpg", "wb") as file:
        file.write(b"x")
    assert rows(root) == rows(pack(root))
    assert rows(root)[2] == {"name that is not UTF-8": 1}


def test_a_damaged_inner_tar_is_named(root, tmp_path):
    (root / "._cow.tar").write_bytes(b"x" * 2000)
    assert rows(pack(root))[2] == {"hidden or a system's own": 1}
    (root / "cow.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match=r"cannot be listed .*\(cow.tar in it: "):
        rows(pack(root))


def test_objects_of_a_bucket_are_listed_as_a_tree(root, s3):
    bucket = Store.open(f"{s3}/listed")
    names = ("ant/0.jpg", "bee/x/1.jpg", "__MACOSX/ant/._0.jpg", "ant/.2.jpg", "readme.txt")
    for name in names:
        bucket.write(name, b"x")
        Store.open(root.parent / "copy").write(name, b"x")
    of_bucket, of_copy = list_tree(bucket), list_tree(Store.open(root.parent / "copy"))
    assert sorted(of_bucket.files) == ["ant/0.jpg", "bee/x/1.jpg", "readme.txt"]
    assert of_bucket == of_copy
