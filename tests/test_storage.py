"""storage.py on a local folder and on S3: the same promises in both places."""

import errno
import hashlib
import os
import pickle
import threading
from pathlib import Path

import pytest

from unite.data.folder import ParquetFolder
from unite.data.ingest.listing import list_tree
from unite.storage import StorageError, Store, moved


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path) -> Store:
    if request.param == "local":
        return Store.open(tmp_path / "root")
    return Store.open(request.getfixturevalue("s3") + "/root")


def test_bytes_come_back(store):
    store.write("a/b.bin", b"\x00\x01")
    assert store.read("a/b.bin") == b"\x00\x01"
    assert (store / "a").read("b.bin") == b"\x00\x01"
    assert (store / "a/b.bin").read() == b"\x00\x01"
    assert store.size("a/b.bin") == 2


def test_empty_file_exists(store):
    store.write("empty", b"")
    assert store.is_file("empty")
    assert store.read("empty") == b""


def test_write_replaces(store):
    store.write("x", b"a much longer first version")
    store.write("x", b"second")
    assert store.read("x") == b"second"


def test_exists_tells_files_from_folders(store):
    assert not store.exists("a")
    store.write("a/b", b"1")
    assert store.exists("a")
    assert store.exists("a/b")
    assert store.is_file("a/b")
    assert not store.is_file("a")


def test_list_is_sorted_and_relative(store):
    for name in ("z", "a/2", "a/1", "a/deep/3"):
        store.write(name, b"")
    assert store.list() == ["a", "z"]
    assert store.list("a") == ["1", "2", "deep"]
    assert store.list("a", recursive=True) == ["1", "2", "deep", "deep/3"]
    assert (store / "a").list() == ["1", "2", "deep"]
    assert store.list("absent") == []


def test_list_of_a_file_is_an_error_or_empty(store):
    store.write("file", b"")
    try:
        assert store.list("file") == []
    except StorageError as error:
        assert "file" in str(error)


def test_json_is_sorted_and_comes_back(store):
    store.write_json("v.json", {"b": [1, 2.5], "a": None})
    assert store.read_json("v.json") == {"a": None, "b": [1, 2.5]}
    text = store.read("v.json").decode()
    assert text.index('"a"') < text.index('"b"')


def test_broken_json_names_the_file(store):
    store.write("v.json", b"{")
    with pytest.raises(StorageError, match=r"v\.json is not JSON"):
        store.read_json("v.json")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[1]", "v.json holds no JSON object but '\\[1\\]'"),
        (b"{}", "v.json has no field 'num'"),
        (b'{"num": "3"}', "v.json has 'num' = '3', which is not a whole number"),
        (b'{"num": 1', "v.json is not JSON, it is damaged or cut short"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 3\n", "v.json is a Git LFS pointer"),
        (b"", "v.json is empty"),
    ],
)
def test_json_without_what_is_needed_is_named(tmp_path, data, says):
    store = Store.open(tmp_path)
    store.write("v.json", data)
    with pytest.raises(KeyError, match=says):
        store.read_json("v.json", {"num": int}, KeyError)
    store.write("v.json", b'{"num": 3, "share": 1}')
    assert store.read_json("v.json", {"num": int, "share": float})["num"] == 3


def test_a_link_to_a_file_keeps_its_name_and_neighbours(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0a1b").write_bytes(b"1")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "w.pt").symlink_to("../blobs/0a1b")
    (tmp_path / "also").symlink_to("named")
    assert Store.open(tmp_path / "named" / "w.pt").uri == str(tmp_path / "named" / "w.pt")
    assert Store.open(tmp_path / "also" / "w.pt").uri == str(tmp_path / "named" / "w.pt")
    assert Store.open(tmp_path / "also").uri == str(tmp_path / "named")


@pytest.mark.parametrize("name", ["a%20b", "a b", "a#b", "100%", "\u00e9+;'"])
def test_a_name_is_taken_as_it_is(store, name):
    """What is written by boto3 is read by pyarrow, which would unquote a part of a URI."""
    place = Store.open(f"{store}/{name}")
    place.write("x", b"1")
    assert place.read("x") == b"1" and place.list() == ["x"] and store.list() == [name]
    place.check_writable()
    assert place.list() == ["x"]


def test_delete_takes_files_and_folders(store):
    for name in ("keep", "a/1", "a/deep/2"):
        store.write(name, b"")
    store.delete("a/1")
    assert not store.exists("a/1")
    assert store.exists("a/deep/2")
    store.delete("a")
    assert not store.exists("a")
    assert not store.exists("a/deep/2")
    store.delete("a")
    assert store.list() == ["keep"]


def test_digest_is_sha256(store):
    data = os.urandom(9 * 2**20)  # more than one chunk
    store.write("big", data)
    assert store.digest("big") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("method", ["read", "read_json", "size", "digest"])
def test_missing_file_is_named(store, method):
    with pytest.raises(StorageError, match="root/no/such"):
        getattr(store, method)("no/such")


def test_the_error_names_a_store_that_is_itself_the_file(store):
    with pytest.raises(StorageError, match=r"root/gone: "):
        (store / "gone").read()


def test_writable_probe_leaves_nothing(store):
    store.check_writable()
    assert store.list() == []


def test_store_travels_between_processes(store):
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


def test_a_failed_local_write_keeps_the_old_version(tmp_path, monkeypatch):
    store = Store.open(tmp_path)
    store.write("x", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left.*has space"):
        store.write("x", b"new")
    assert store.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"], "the temporary sibling must be gone"


def test_what_killed_writers_left_is_tidied_away(store):
    if store.is_local:
        store.write("a/.x.npz.0a1b2c3d.tmp", b"half")
    store.write("a/x.npz", b"whole")
    store.write("a/.hidden", b"mine")
    store.tidy("a")
    assert store.list("a") == [".hidden", "x.npz"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="out is a file, where a folder is needed"):
        Store.open(tmp_path / "out").check_writable()


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write .*/file/run/"):
        Store.open(tmp_path / "file" / "run").check_writable()


def test_bucket_that_does_not_exist_is_named(s3):
    with pytest.raises(StorageError, match="s3://no-such-bucket-here"):
        Store.open("s3://no-such-bucket-here/run").check_writable()


def test_relative_and_home_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store.open("runs").uri == str(tmp_path / "runs")
    assert Store.open("~/runs/").uri == str(tmp_path / "runs")
    assert Store.open(Path("runs")).name == "runs"


def test_odd_local_names_work(tmp_path):
    store = Store.open(tmp_path / "a b#c%20d?e=f")
    store.write("x y.json", b"1")
    assert store.list() == ["x y.json"]
    assert (store / "x y.json").read() == b"1"


def test_file_uri_is_local(tmp_path):
    store = Store.open(f"file://{tmp_path}/run")
    assert store.is_local
    store.write("x", b"1")
    assert (tmp_path / "run" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "empty path"),
        ("ftpx://host/x", "ftpx://host/x"),
        ("s3://bucket/x?endpoint_override=127.0.0.1:1", "AWS_ENDPOINT_URL"),
        ("s3:/bucket/runs", "s3:/bucket/runs is no s3:// URI: write s3://BUCKET/FOLDER"),
        ("S3://bucket/runs", "write s3://BUCKET/FOLDER"),
        ("s3://", "write s3://BUCKET/FOLDER"),
        ("s3:///runs", "write s3://BUCKET/FOLDER"),
    ],
)
def test_unusable_uris_are_refused(uri, words):
    with pytest.raises(StorageError, match=words):
        Store.open(uri).exists()


def test_keys_in_a_uri_are_refused_and_not_repeated():
    """pyarrow takes them, and a place is written into configs, MLflow's tags and messages."""
    with pytest.raises(StorageError, match="AWS_SECRET_ACCESS_KEY") as caught:
        Store.open("s3://AKIA:planted@bucket/runs")
    assert "planted" not in str(caught.value)
    assert Store.open("s3://bucket/a@b").uri == "s3://bucket/a@b"


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    """The name appears by rename, so whoever reads while a write is under way sees all or none."""
    store = Store.open(tmp_path)
    seen: list[list[str]] = []
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        seen.append(store.list())
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", spy)
        store.write("x", b"data")
    assert "x" not in seen[0]
    assert store.list() == ["x"]


def test_a_check_leaves_no_folder(tmp_path):
    Store.open(tmp_path / "runs" / "new").check_writable()
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").write_text("")
    Store.open(tmp_path / "runs" / "new").check_writable()
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["mine"]


def test_an_object_store_that_never_answers_is_given_up_at_our_deadline(monkeypatch):
    class Frozen:
        def get_file_info(self, path):
            blocked.wait()

    blocked = threading.Event()
    # The thread outlives the test: a client that it made later would have the next one's store.
    monkeypatch.setattr("unite.storage.upload", lambda *_: blocked.wait())
    monkeypatch.setattr("unite.storage.DEADLINE_S", 0.05)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = Store("s3://bucket/runs")
    store.__dict__["_resolved"] = (Frozen(), "bucket/runs")
    with pytest.raises(StorageError, match="cannot read s3://bucket/runs/x: AWS_ENDPOINT_URL=http"):
        store.exists("x")
    with pytest.raises(StorageError, match="cannot write s3://bucket/runs.* did not answer within"):
        store.check_writable()
    blocked.set()


def test_a_listing_that_fails_names_its_place():
    class Away:
        def get_file_info(self, what):
            raise OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2 operation")

    store = Store("s3://bucket/images")
    store.__dict__["_resolved"] = (Away(), "bucket/images")
    for listing in (ParquetFolder.list, list_tree, Store.list, Store.infos):
        with pytest.raises(StorageError, match="cannot list s3://bucket/images: AWS Error NETWORK"):
            listing(store)


@pytest.mark.parametrize(
    ("place", "there"),
    [
        ("/old/run", "/new/run"),
        ("/old", "/new"),
        ("/older/run", "/older/run"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("sqlite:////old/mlflow.db", "sqlite:////new/mlflow.db"),
        ("sqlite:////elsewhere/mlflow.db", "sqlite:////elsewhere/mlflow.db"),
        ("http://mlflow:5000", "http://mlflow:5000"),
    ],
)
def test_what_lies_below_a_root_moves_with_it(place, there):
    assert moved(place, "/old", "/new") == there
