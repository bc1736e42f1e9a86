"""Sources become shards: what is stored, what is skipped, what an interrupted job keeps."""

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from plain_data import changed_shards
from typed import typed
from unite.data.ingest import prepare as prepare_room
from unite.data.ingest.digits import load_digits, prepare_digits
from unite.data.ingest.finished import describe_manifest, is_complete
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import (
    begin,
    describe_plan,
    finish,
    plan,
    run_job,
)
from unite.data.ingest.trial import try_parts
from unite.data.manifest import (
    SCHEMA_VERSION,
    UNFINISHED,
    ShardError,
    content_digest,
    encoding_name,
    read_manifest,
)
from unite.data.parts import measured_split, require_domain
from unite.data.shards import ShardSet, require_same_classes
from unite.domains.columns import IMAGES
from unite.domains.transforms import center_crop_adm, decode_image
from unite.storage import Store

CLASSES = ("apple", "bird", "cat")


def jpeg(seed: int, size: tuple[int, int] = (50, 40), mode: str = "RGB") -> bytes:
    """A smooth picture, so that JPEG at high quality is close to it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path) -> Path:
    """30 images in three classes, a broken one, a grey one, and a file that is no image."""
    root = tmp_path / "tree"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(10):
            (root / name / f"{index}.JPEG").write_bytes(jpeg(10 * label + index))
    (root / "bird" / "3.JPEG").write_bytes(jpeg(13)[:200])
    (root / "cat" / "4.JPEG").write_bytes(jpeg(24, mode="L"))
    (root / "cat" / "notes.txt").write_text("no image")
    return root


def config(source: Path | str, out: Path | str, **changes) -> ImagesIngest:
    settings = {"size": 16, "rows_per_group": 3, "rows_per_shard": 8}
    return ImagesIngest(source=str(source), out=str(out), **{**settings, **changes})


def prepare(chosen: ImagesIngest) -> ShardSet:
    """The whole job in this process."""
    planned = plan(chosen)
    begin(planned)
    finish(planned, [run_job(job) for job in planned.jobs])
    return ShardSet.open(chosen.out, chosen.split, ("image", "label", "path"))


def rows_of(shards: ShardSet) -> list[dict]:
    tables = [shards.read(group) for group in range(len(shards.row_groups))]
    return pa.concat_tables(tables).to_pylist()


def test_tree_of_class_folders(tree, tmp_path):
    shards = prepare(config(tree, tmp_path / "out"))
    assert shards.num_rows == 29
    assert shards.class_names == CLASSES
    assert shards.manifest.skipped == {"not an image file": 1, "not a readable image": 1}
    assert len(shards.files) == 4
    assert max(group.num_rows for group in shards.row_groups) == 3
    for row in rows_of(shards):
        name, file = row["path"].split("/")
        assert CLASSES.index(name) == row["label"]
        expected = decode_image((tree / name / file).read_bytes(), 16, 3)
        stored = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        assert stored.shape == (16, 16, 3)
        assert np.abs(stored.astype(int) - expected).mean() < 4
    assert not changed_shards(shards)
    assert not (tmp_path / "out" / UNFINISHED).exists()


def test_bytes_of_shards_are_those_of_plain_parquet(tree, tmp_path):
    """Data sets that users have keep their digests: rows and options written out once more."""
    shards = prepare(config(tree, tmp_path / "out"))
    kinds = pa.schema([("image", pa.binary()), ("label", pa.int64()), ("path", pa.string())])
    compression = {"image": "NONE", "label": "ZSTD", "path": "ZSTD"}
    for file in shards.files:
        place, again = tmp_path / "out" / file, tmp_path / "again.parquet"
        with pq.ParquetWriter(
            again,
            kinds,
            compression=compression,
            use_dictionary=False,
            write_statistics=["label"],
        ) as writer:
            stored = pq.ParquetFile(place)
            for group in range(stored.num_row_groups):
                rows = stored.read_row_group(group).to_pylist()
                writer.write_table(pa.Table.from_pylist(rows, schema=kinds), row_group_size=3)
        assert again.read_bytes() == place.read_bytes()


def test_places_of_skipped_rows_are_kept(tree, tmp_path):
    shards = prepare(config(tree, tmp_path / "out"))
    found = [shard.examples for shard in shards.manifest.shards if shard.examples]
    assert found == [{"not a readable image": ["bird/3.JPEG"]}]


def test_a_manifest_names_its_domain_and_an_older_one_is_of_images(tree, tmp_path):
    out = Store.open(tmp_path / "out")
    shards = prepare(config(tree, out.uri))
    assert shards.manifest.domain == "images"
    value = out.read_json("manifest.json", {})
    del value["splits"]["train"]["domain"]
    out.write_json("manifest.json", value)
    older = ShardSet.open(out.uri, "train", IMAGES)
    assert older.digest == shards.digest and older.manifest.domain == "images"
    require_domain(out, "images", "recipe digits")
    assert measured_split(out.uri) == "eval"
    with pytest.raises(ShardError, match="out holds images; recipe mp20 reads crystals"):
        require_domain(out, "crystals", "recipe mp20")


def test_crop_is_that_of_adm_at_full_decoding(tree):
    data = (tree / "apple" / "0.JPEG").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(center_crop_adm(image.convert("RGB"), 16)).astype(int)
    assert np.abs(decode_image(data, 16, 3) - expected).max() <= 1


def test_original_bytes(tree, tmp_path):
    shards = prepare(config(tree, tmp_path / "out", original=True))
    for row in rows_of(shards):
        assert row["image"] == (tree / row["path"]).read_bytes()


def test_what_is_measured_on_is_stored_without_loss(tree, tmp_path):
    """Crops of the eval split are the pixels that training would crop itself, to the bit."""
    shards = prepare(config(tree, tmp_path / "out", split="eval"))
    assert encoding_name(shards.manifest.preparation) == "webp-lossless"
    for row in rows_of(shards):
        assert row["image"][8:12] == b"WEBP"
        expected = decode_image((tree / row["path"]).read_bytes(), 16, 3)
        np.testing.assert_array_equal(decode_image(row["image"], 16, 3), expected)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "jpeg-95"),
        ({"quality": 80}, "jpeg-80"),
        ({"split": "eval", "encoding": "jpeg"}, "jpeg-95"),
        ({"encoding": "webp"}, "webp-lossless"),
        ({"encoding": "original"}, "original bytes"),
        ({"split": "eval", "original": True}, "original bytes"),
    ],
)
def test_the_manifest_names_the_encoding(tree, tmp_path, settings, name):
    chosen = config(tree, tmp_path / "out", **settings)
    assert name in describe_plan(plan(chosen))
    assert encoding_name(prepare(chosen).manifest.preparation) == name


def test_encodings_of_other_folders():
    assert encoding_name({}) == "unknown"
    assert encoding_name({"encoding": "png", "size": 8}) == "png"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "webp", "quality": 50}, "--quality 50 has no effect.*webp"),
        ({"split": "eval", "quality": 50}, "--quality 50 has no effect.*--encoding jpeg"),
        ({"original": True, "quality": 50}, "no effect.*original"),
        ({"original": True, "encoding": "jpeg"}, "exclude each other"),
        ({"encoding": "webp", "size": 20_000}, "--size 20000: WebP"),
    ],
)
def test_encodings_that_contradict_themselves(tree, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        plan(config(tree, tmp_path / "out", **settings))


def test_folders_of_before_the_flag_go_on(tree, tmp_path):
    """Their fingerprint had these settings and no encoding."""
    chosen = config(tree, tmp_path / "out", split="eval", encoding="jpeg")
    planned = plan(chosen)
    names = ("original", "quality", "rows_per_group", "rows_per_shard", "size", "split")
    before = {name: getattr(chosen, name) for name in names}
    (part,) = planned.splits
    assert part.fingerprint == content_digest([SCHEMA_VERSION, part.source.digest, before])
    prepare(chosen)
    assert len(plan(replace(chosen, encoding="jpeg")).jobs) == len(planned.jobs)
    with pytest.raises(ShardError, match="before there was --encoding it was --encoding jpeg"):
        plan(replace(chosen, encoding="auto"))


def test_a_folder_of_another_preparation_says_what_differs(tree, tmp_path):
    made = config(tree, tmp_path / "out", size=16)
    prepare(made)
    with pytest.raises(ShardError, match="settings: size is 16 there, 24 here; choose"):
        plan(replace(made, size=24))
    (tree / "more").mkdir()
    (tree / "more" / "0.jpg").write_bytes(jpeg(0))
    with pytest.raises(ShardError, match=r"settings: its source, \S*, had other rows; choose"):
        plan(made)


def test_images_of_the_right_size_keep_their_bytes(tmp_path):
    (tmp_path / "tree" / "a").mkdir(parents=True)
    data = jpeg(0, size=(16, 16))
    (tmp_path / "tree" / "a" / "x.jpg").write_bytes(data)
    assert rows_of(prepare(config(tmp_path / "tree", tmp_path / "out")))[0]["image"] == data


def test_classes_are_mixed_and_the_order_is_fixed(tree, tmp_path):
    first = prepare(config(tree, tmp_path / "a"))
    labels = first.labels()
    assert len(set(labels[:10].tolist())) == 3
    assert first.digest == prepare(config(tree, tmp_path / "b")).digest


@pytest.mark.parametrize("nested", [False, True])
def test_tar_equals_the_tree(tree, tmp_path, nested):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as outer:
        for folder in sorted(tree.iterdir()):
            if nested:
                inner = tmp_path / f"{folder.name}.tar"
                with tarfile.open(inner, "w") as part:
                    for file in sorted(folder.iterdir()):
                        part.add(file, arcname=file.name)
                outer.add(inner, arcname=inner.name)
            else:
                outer.add(folder, arcname=f"train/{folder.name}")
    of_tar = prepare(config(archive, tmp_path / "tar"))
    of_tree = prepare(config(tree, tmp_path / "tree-out"))
    assert of_tar.class_names == of_tree.class_names
    assert of_tar.manifest.skipped == of_tree.manifest.skipped

    def content(shards: ShardSet) -> set[tuple]:
        return {
            (tuple(row["path"].split("/")[-2:]), row["label"], row["image"])
            for row in rows_of(shards)
        }

    assert content(of_tar) == content(of_tree)


@dataclass
class Listing:
    """Class names and bytes of a Hugging Face style folder."""

    folder: Path
    images: list[bytes]


@pytest.fixture
def parquet(tmp_path) -> Listing:
    folder = tmp_path / "hf"
    folder.mkdir()
    images = [jpeg(seed) for seed in range(21)]
    labels = [seed % 2 for seed in range(20)] + [-1]
    cells = [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(images)]
    table = pa.table({"image": cells, "label": labels})
    pq.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=5)
    pq.write_table(table.slice(0, 4), folder / "test-00000-of-00001.parquet")
    return Listing(folder, images)


def test_hugging_face_parquet_keeps_its_order(parquet, tmp_path):
    shards = prepare(config(parquet.folder, tmp_path / "out", original=True))
    assert [row["image"] for row in rows_of(shards)] == parquet.images[:20]
    assert shards.labels().tolist() == [seed % 2 for seed in range(20)]
    assert shards.manifest.skipped == {"no label in the range of the classes": 1}


def test_both_splits_in_one_folder(parquet, tmp_path):
    out = tmp_path / "out"
    train = prepare(config(parquet.folder, out))
    held_out = prepare(config(parquet.folder, out, split="eval"))
    assert (train.num_rows, held_out.num_rows) == (20, 4)
    assert ShardSet.open(out, "train", IMAGES).digest == train.digest
    assert "eval: 4 images" in describe_manifest(Store.open(out))


def test_two_preparations_that_end_at_once_are_both_in_the_manifest(parquet, tmp_path, monkeypatch):
    """The first one stands between its reading and its writing when the second one ends."""
    planned = {
        split: plan(
            ImagesIngest(
                source=str(parquet.folder), out=str(tmp_path / "out"), size=16, split=split
            )
        )
        for split in ("train", "eval")
    }
    shards = {}
    for split, each in planned.items():
        begin(each)
        shards[split] = [run_job(job) for job in each.jobs]
    reading = threading.Event()
    second = threading.Thread(target=lambda: finish(planned["eval"], shards["eval"]))

    def read_slowly(store):
        found = read_manifest(store)
        if not reading.is_set():
            reading.set()
            second.start()
            second.join(2.0)
        return found

    monkeypatch.setattr(prepare_room, "read_manifest", read_slowly)
    finish(planned["train"], shards["train"])
    second.join(60.0)
    assert set(read_manifest(planned["train"].store)) == {"train", "eval"}
    assert not planned["train"].store.exists(UNFINISHED)


def test_splits_may_be_prepared_before_the_other_one_is_finished(tree, tmp_path):
    """Held-out images alone wait: they take the classes of the training set."""
    out = tmp_path / "out"
    held_out = plan(config(tree, out, split="eval"))
    begin(held_out)
    done = [run_job(held_out.jobs[0])]
    train = plan(config(tree, out))
    begin(train)
    run_job(train.jobs[0])
    finish(held_out, [*done, *map(run_job, held_out.jobs[1:])])
    assert set(read_manifest(Store.open(out))) == {"eval"}
    prepare(config(tree, out))
    assert set(read_manifest(Store.open(out))) == {"eval", "train"}

    begin(plan(config(tree, tmp_path / "other")))
    with pytest.raises(ShardError, match="preparation of split 'train' in .*: finish it first"):
        plan(config(tree, tmp_path / "other", split="eval"))


def test_finished_preparations_say_so_without_ray(tree, tmp_path):
    chosen = config(tree, tmp_path / "out", rows_per_shard=5)
    assert not is_complete(plan(chosen))
    prepare(chosen)
    assert is_complete(plan(chosen))
    assert not is_complete(plan(replace(chosen, split="eval")))
    words = ["jobs/prepare_data.py", str(tree), "--out", chosen.out, "--rows-per-shard", "5"]
    words += ["--size", str(chosen.size), "--rows-per-group", str(chosen.rows_per_group)]
    assert "finished; nothing to do" in typed(*words).stdout
    shard = next(iter((tmp_path / "out").glob("*.parquet")))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not is_complete(plan(chosen)), "a shard was cut short"
    shard.unlink()
    assert not is_complete(plan(chosen))


def test_interrupted_job_keeps_finished_shards(tree, tmp_path):
    chosen = config(tree, tmp_path / "out")
    planned = plan(chosen)
    begin(planned)
    for job in planned.jobs[:2]:
        run_job(job)
    with pytest.raises(ShardError, match="was interrupted"):
        ShardSet.open(chosen.out, "train", IMAGES)
    kept, damaged = (tmp_path / "out" / job.name for job in planned.jobs[:2])
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(b"half")
    resumed = prepare(chosen)
    assert kept.stat().st_mtime_ns == before, "a finished shard was written again"
    assert resumed.digest == prepare(config(tree, tmp_path / "straight")).digest
    assert not changed_shards(resumed)


KILLED = """
import os, signal, sys
from unite.data.ingest import prepare as module
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import begin, plan, run_job
from unite.storage import Store

source, out, fatal = sys.argv[1:]
real = Store._write

def write(self, name, pieces):
    def until_the_end():
        yield from pieces
        if name.endswith(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
    real(self, name, until_the_end())

Store._write = write
chosen = ImagesIngest(source=source, out=out, size=16, rows_per_group=3, rows_per_shard=8)
planned = plan(chosen)
begin(planned)
shards = [run_job(job) for job in planned.jobs]
module.finish(planned, shards)
"""


@pytest.mark.parametrize(
    ("fatal", "kept"),
    [
        ("00002-of-00004.parquet", 2),
        ("00002-of-00004.parquet.json", 2),
    ],
    ids=["in a shard", "in its record"],
)
def test_killed_with_9_and_run_again(tree, tmp_path, fatal, kept):
    """Everything was written but the rename when the signal came."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(tree), str(out), fatal]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    with pytest.raises(ShardError, match="was interrupted"):
        ShardSet.open(out, "train", IMAGES)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    records = len(list((out / UNFINISHED).glob("*.parquet.json")))
    assert records == kept
    resumed = prepare(config(tree, out))
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert sum(again[name] == written for name, written in before.items()) == kept
    assert resumed.digest == prepare(config(tree, tmp_path / "straight")).digest
    assert not changed_shards(resumed)
    assert not (out / UNFINISHED).exists()


def test_running_a_finished_job_again_repairs_it(tree, tmp_path):
    chosen = config(tree, tmp_path / "out")
    before = prepare(chosen)
    (tmp_path / "out" / before.files[1]).unlink()
    after = prepare(chosen)
    assert after.digest == before.digest
    assert after.manifest.skipped == before.manifest.skipped


def test_folder_with_other_shards_is_refused(tree, parquet, tmp_path):
    chosen = config(tree, tmp_path / "out")
    prepare(chosen)
    with pytest.raises(ShardError, match="already holds split 'train' of another source"):
        plan(replace(chosen, size=8))
    with pytest.raises(ShardError, match="no manifest describes"):
        plan(replace(chosen, out=str(parquet.folder)))


def test_unfinished_folder_of_other_settings_is_refused(tree, tmp_path):
    chosen = config(tree, tmp_path / "out")
    begin(plan(chosen))
    with pytest.raises(ShardError, match="other settings"):
        plan(replace(chosen, quality=50))


def test_estimate_is_near_the_real_size(tree, tmp_path):
    chosen = config(tree, tmp_path / "out", rows_per_shard=29)
    planned = plan(chosen)
    assert "30 images, 3 classes" in describe_plan(planned)
    assert not (tmp_path / "out").exists(), "a plan writes nothing"
    shards = prepare(chosen)
    images = sum(len(row["image"]) for row in rows_of(shards))
    parts = [job.part for job in planned.jobs]
    trial = try_parts("tree", parts, chosen, every=False)
    assert trial.bytes_per_row * planned.num_rows == pytest.approx(images, rel=0.2)


def test_sources_that_cannot_be_used(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ShardError, match="does not exist"):
        plan(config(tmp_path / "absent", out))
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(ShardError, match="no class folders with image files.*--labels"):
        plan(config(tmp_path / "empty", out))
    (tmp_path / "file.zip").write_bytes(b"x")
    with pytest.raises(ShardError, match="a file but no .tar"):
        plan(config(tmp_path / "file.zip", out))
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ShardError, match="cannot be listed as a plain tar"):
        plan(config(tmp_path / "bad.tar", out))
    (tmp_path / "bad.tar").write_text("version https://git-lfs.github.com/spec/v1\nsize 2000\n")
    with pytest.raises(ShardError, match="bad.tar is a Git LFS pointer.*git lfs pull"):
        plan(config(tmp_path / "bad.tar", out))
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(tmp_path / "file.zip", arcname="a/b.jpg")
    with pytest.raises(ShardError, match="uncompress it"):
        plan(config(tmp_path / "packed.tar", out))


@pytest.fixture
def flat(tmp_path) -> Path:
    """Images without folders, as ImageNet's validation set is distributed."""
    folder = tmp_path / "val"
    folder.mkdir()
    for index in range(4):
        (folder / f"val_{index}.JPEG").write_bytes(jpeg(index))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_images_that_lie_flat_take_their_classes_from_a_file(flat, tree, tmp_path, packed):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "ImageId,PredictionString\n"
        + "".join(
            f"val_{index},{name} 1 2 3 4\n"
            for index, name in enumerate(["cat", "apple", "cat", "apple"])
        )
    )
    source = flat
    if packed:
        source = tmp_path / "val.tar"
        with tarfile.open(source, "w") as archive:
            for file in sorted(flat.iterdir()):
                archive.add(file, arcname=file.name)
    out = tmp_path / "out"
    with pytest.raises(ShardError, match="need --labels FILE with lines"):
        prepare(config(source, out, split="eval"))
    prepare(config(tree, out))
    held_out = prepare(config(source, out, split="eval", labels=str(labels)))
    assert held_out.class_names == CLASSES, "the training set's numbering, though bird is lacking"
    assert {row["path"]: row["label"] for row in rows_of(held_out)} == {
        f"val_{index}.JPEG": 2 * (index % 2 == 0) for index in range(4)
    }
    require_same_classes(ShardSet.open(out, "train", IMAGES), held_out)
    labels.write_text("val_0.JPEG cat\n")
    with pytest.raises(ShardError, match=r"no line for 3 of 4 images .*such as val_1\.JPEG"):
        plan(config(source, tmp_path / "other", labels=str(labels)))
    labels.write_text("val_0.JPEG\n")
    with pytest.raises(ShardError, match="line 1: no class in 'val_0.JPEG'"):
        plan(config(source, tmp_path / "other", labels=str(labels)))


def test_a_held_out_tree_that_lacks_a_class_keeps_the_training_labels(tree, tmp_path):
    held_out = tmp_path / "held-out"
    shutil.copytree(tree, held_out)
    shutil.rmtree(held_out / "bird")
    train = prepare(config(tree, tmp_path / "out"))
    alone = prepare(config(held_out, tmp_path / "alone", split="eval"))
    assert set(alone.labels()) == {0, 1}
    with pytest.raises(ShardError, match="from label 1 on .*held out lacks: bird; has extra: none"):
        require_same_classes(train, alone)
    beside = prepare(config(held_out, tmp_path / "out", split="eval"))
    assert set(beside.labels()) == {0, 2}
    require_same_classes(train, beside)
    (held_out / "cat").rename(held_out / "zebra")
    with pytest.raises(ShardError, match="does not have: zebra"):
        plan(replace(config(held_out, tmp_path / "out", split="eval"), size=8))


def test_wholly_unusable_source(tmp_path):
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "x.jpg").write_bytes(b"no image")
    with pytest.raises(ShardError, match="no row of .* could be used"):
        prepare(config(tmp_path / "tree", tmp_path / "out"))


@pytest.mark.parametrize("change", [{"quality": 0}, {"size": 0}, {"rows_per_shard": -1}])
def test_settings_out_of_range(tree, tmp_path, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} = "):
        plan(config(tree, tmp_path / "out", **change))


def test_prepare_from_and_to_s3(tree, s3):
    source = Store.open(f"{s3}/tree")
    for path in tree.rglob("*.*"):
        source.write(str(path.relative_to(tree)), path.read_bytes())
    shards = prepare(config(source.uri, f"{s3}/out"))
    assert (shards.num_rows, shards.class_names) == (29, CLASSES)
    assert not changed_shards(shards)


def test_digits(tmp_path):
    store = Store.open(tmp_path / "digits")
    assert prepare_digits(store) and not prepare_digits(store), "the second time nothing is written"
    train, held_out = (
        ShardSet.open(store.uri, "train", IMAGES),
        ShardSet.open(store.uri, "eval", IMAGES),
    )
    assert (train.num_rows, held_out.num_rows) == (1500, 297)
    assert len(train.row_groups) == 6
    assert np.bincount(train.labels()).min() >= 145
    images, labels = load_digits()
    stored = {row["path"]: row for s in (train, held_out) for row in rows_of(with_path(s))}
    assert len(stored) == 1797
    for row in (0, 700, 1796):
        cell = stored[f"digits/{row}"]
        assert np.array_equal(decode_image(cell["image"], 8, 1)[..., 0], images[row])
        assert cell["label"] == labels[row]
    before = read_manifest(store)["train"].digest
    prepare_digits(store)
    prepare_digits(Store.open(tmp_path / "again"))
    assert (
        before
        == ShardSet.open(store.uri, "train", IMAGES).digest
        == ShardSet.open(tmp_path / "again", "train", IMAGES).digest
    )


def test_digits_whose_shard_was_lost_are_written_again(tmp_path):
    """Training says to run the preparation again, which must not call them finished then."""
    store = Store.open(tmp_path)
    prepare_digits(store)
    whole = store.read("train-00000-of-00001.parquet")
    for damage in (lambda name: store.delete(name), lambda name: store.write(name, whole[:99])):
        damage("train-00000-of-00001.parquet")
        assert prepare_digits(store)
        assert store.read("train-00000-of-00001.parquet") == whole
    assert not prepare_digits(store)


def test_digits_do_not_take_the_place_of_other_data(tree, tmp_path):
    out = Store.open(tmp_path / "out")
    prepare(config(tree, out.uri))
    before = out.read("manifest.json")
    with pytest.raises(ShardError, match="out already holds split 'train' of another source"):
        prepare_digits(out)
    assert out.read("manifest.json") == before
    foreign = Store.open(tmp_path / "foreign")
    foreign.write("train-00000-of-00025.parquet", out.read("train-00000-of-00004.parquet"))
    with pytest.raises(ShardError, match="parquet files that no manifest describes"):
        prepare_digits(foreign)
    assert foreign.list() == ["train-00000-of-00025.parquet"]


def test_digits_of_a_killed_preparation_are_written_again(tmp_path):
    store = Store.open(tmp_path)
    prepare_digits(store)
    store.delete("manifest.json")
    assert prepare_digits(store) and not prepare_digits(store)


def with_path(shards: ShardSet) -> ShardSet:
    return replace(shards, columns=(*shards.columns, "path"))


def test_script_prepares_digits_without_ray(root, tmp_path):
    command = [sys.executable, str(root / "jobs" / "prepare_data.py"), "builtin:digits"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "digits")], capture_output=True, text=True, check=True
    )
    assert "train: 1,500 images" in done.stdout
    assert ShardSet.open(tmp_path / "digits", "train", IMAGES).num_rows == 1500


def test_script_reports_errors_and_plans_without_writing(root, tree, tmp_path):
    command = [sys.executable, str(root / "jobs" / "prepare_data.py")]
    out = ["--out", str(tmp_path / "out")]
    failed = subprocess.run([*command, "/absent", *out], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: the source /absent does not exist")
    dry = subprocess.run(
        [*command, str(tree), *out, "--dry-run"], capture_output=True, text=True, check=True
    )
    assert "30 images, 3 classes" in dry.stdout
    assert not (tmp_path / "out").exists()
