"""Files and names from outside: nothing in them is run, and none leads out of its folder.

Each attack would leave a mark where it worked. Further ones stand beside what reads them: weights
of LPIPS (training/test_losses.py), tars (data/ingest/test_listing.py) and names
(config/test_names.py).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

import unite
from unite.checkpoints.store import CheckpointError
from unite.cluster.cluster_yaml import ClusterFileError, check_cluster
from unite.commands.doctor import doctor
from unite.config.files import starting_config
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.config.validate import validate
from unite.data.ingest.atoms import rows
from unite.data.ingest.atoms.cif import read_cif
from unite.data.manifest import ShardError, read_manifest
from unite.entry import run
from unite.evaluation.chunks import Chunk, ChunkError, read_chunk
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.small import SmallExtractor
from unite.logs import log_file
from unite.metrics.errors import MetricError
from unite.runs import read_run_config
from unite.storage import Store
from unite.tracking import TrackingError, push_spool


class Runs:
    """A pickled one makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path) -> Path:
    """The file that exists after an attack that worked."""
    yield tmp_path / "it-ran"
    assert not (tmp_path / "it-ran").exists()


def test_the_attack_would_show(tmp_path):
    pickle.loads(pickle.dumps(Runs(tmp_path / "it-ran-here")))
    assert (tmp_path / "it-ran-here").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.npz"])
def test_a_pickle_under_any_name_is_no_weights_file(tmp_path, mark, name):
    (tmp_path / name).write_bytes(pickle.dumps({"model": Runs(mark)}))
    with pytest.raises(CheckpointError):
        unite.load(str(tmp_path / name))


def objects(mark: Path) -> bytes:
    """An npz whose arrays are pickled objects."""
    buffer = io.BytesIO()
    np.savez(buffer, mu=np.array([Runs(mark)]), sigma=np.eye(2))
    return buffer.getvalue()


def test_objects_in_an_npz_are_not_opened(tmp_path, mark):
    chunk = Chunk(label="generation", index=0, count=1, total=4)
    Store.open(tmp_path).write("chunks/generation-0-4.npz", objects(mark))
    with pytest.raises(ChunkError, match="pickled objects"):
        read_chunk(Store.open(tmp_path), chunk)
    (tmp_path / "reference.npz").write_bytes(objects(mark))
    with pytest.raises(MetricError, match="pickled objects"):
        Reference.load(str(tmp_path / "reference.npz"))


def test_a_pickle_is_no_fitted_extractor(tmp_path, mark):
    card = {"image_shape": [1, 8, 8], "options": {}, "digest": "0"}
    (tmp_path / "extractor.json").write_text(json.dumps(card))
    (tmp_path / "extractor.safetensors").write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(MetricError):
        SmallExtractor.load(str(tmp_path))


def header(content: object, size: int | None = None) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


FAR = {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
OVER = {
    "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
}
MANY = {"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}}


@pytest.mark.parametrize(
    "data",
    [
        header({}, size=2**62),
        header(FAR),
        header(OVER) + bytes(4),
        header(MANY) + bytes(4),
        header(["no", "object"]),
    ],
    ids=["length", "offsets", "overlap", "shape", "list"],
)
def test_a_header_that_lies_about_its_tensors_is_refused(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        unite.load(str(tmp_path / "model.safetensors"))


def test_tags_of_yaml_run_nothing(tmp_path, mark):
    tag = (
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]"
    )
    (tmp_path / "run.yaml").write_text(f"recipe: smoke\nname: {tag}\n")
    with pytest.raises(ValueError, match="is no YAML"):
        starting_config(["--config", str(tmp_path / "run.yaml")])
    (tmp_path / "cluster.yaml").write_text(f"cluster_name: {tag}\n")
    with pytest.raises(ClusterFileError, match="is not YAML"):
        check_cluster(tmp_path / "cluster.yaml")


def evil_cif(mark: Path) -> str:
    """Rock salt whose symmetry is a line of Python, as in CVE-2024-23346."""
    code = f"__import__('pathlib').Path('{mark}').touch()"
    return f"""data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M "{code}"
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
"{code}"
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na Na0 0 0 0
Cl Cl1 0.5 0.5 0.5
"""


def test_a_cif_runs_nothing(mark):
    pytest.importorskip("pymatgen", reason="needs pymatgen")
    with contextlib.suppress(ValueError):  # the line may be passed over or refused
        read_cif(evil_cif(mark))


@pytest.mark.parametrize("change", ["a,b,9**9**9**9;0,0,0", "a,b,__import__('os');0,0,0"])
def test_a_formula_in_a_magnetic_cif_is_not_evaluated(tmp_path, change):
    text = evil_cif(tmp_path).replace(
        "loop_", f"_Space_group_magn.transform_BNS_Pp_abc '{change}'\nloop_", 1
    )
    with pytest.raises(ValueError, match="parse: the CIF is of a magnetic structure"):
        read_cif(text)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_swells_is_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(rows, "MOST_UNPACKED", 1000)
    (tmp_path / "bomb").write_bytes(pack(bytes(10**6)))
    with (
        pytest.raises(ShardError, match="unpacks to more than 1,000 bytes"),
        rows.opened(Store.open(tmp_path), "bomb"),
    ):
        pytest.fail("opened")
    (tmp_path / "small").write_bytes(pack(bytes(1000)))
    with rows.opened(Store.open(tmp_path), "small") as file:
        assert file.read() == bytes(1000)


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/passwd", "a/../../b"])
def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path, name):
    shard = {"file": name, "row_groups": [1], "bytes": 1, "sha256": "0"}
    split = {"shards": [shard], "columns": [], "class_names": None, "skipped": {}}
    content = {"schema_version": 1, "splits": {"train": {**split, "preparation": {}}}}
    Store.open(tmp_path).write_json("manifest.json", content)
    with pytest.raises(ShardError, match="leads out of its folder"):
        read_manifest(Store.open(tmp_path))


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "x?endpoint_override=203.0.113.1", "/root", "a#b", "a\\b", "-rf", ".x"]
)
def test_the_name_of_a_run_is_one_part_of_a_path(name):
    with pytest.raises(ValueError, match="name"):
        validate(replace(recipe("smoke"), {"name": name}))


def test_options_in_a_uri_send_nothing_elsewhere(tmp_path):
    for uri in ("s3://b/x?endpoint_override=203.0.113.1:1", "s3://b/x?scheme=http"):
        with pytest.raises(OSError, match="carries options after"):
            Store.open(uri)
        with pytest.raises(OSError, match="carries options after"):
            read_run_config(uri)


def test_a_spool_from_elsewhere_sends_to_no_file_of_its_choice(tmp_path, mark):
    """target.json names a sqlite file: one that is not there is not made."""
    run = {"uri": f"sqlite:///{mark}", "run_id": "0" * 32, "experiment_id": ""}
    target = {"run": run, "training": True, "tags": {}, "status": ""}
    (tmp_path / "target.json").write_text(json.dumps(target))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 1, "metrics": {"lr": 1}}\n')
    with pytest.raises(TrackingError):
        push_spool(tmp_path / "metrics.jsonl")


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-storage",
    "MLFLOW_TRACKING_PASSWORD": "planted-password",
    "MLFLOW_TRACKING_URI": "http://somebody:planted-in-uri@127.0.0.1:9",
    "RAY_AUTH_TOKEN": "planted-token",
}


def test_doctor_tells_no_secret(tmp_path, monkeypatch, capsys):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("unite.drivers.machine.answers", lambda *_, **__: "refused")
    for as_text in (True, False):
        with pytest.raises(SystemExit):  # nobody listens at that address
            doctor(storage=str(tmp_path), cluster="", recipe="", as_text=as_text)
        said = "".join(capsys.readouterr())
        assert "127.0.0.1:9" in said and "planted" not in said


def test_a_crash_leaves_no_secret_in_its_log(monkeypatch, capsys):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def crash() -> int:
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        return len(secret) // 0

    assert run(crash) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert "ZeroDivisionError" in log_file().read_text()
    assert "planted" not in log_file().read_text()
