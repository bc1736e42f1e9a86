import shutil
from dataclasses import replace

import pytest

from tiny_run import never
from unite.checkpoints.export import write_export
from unite.checkpoints.load import load
from unite.checkpoints.store import CheckpointError, checkpoint_digest, latest
from unite.config.serialise import to_dict
from unite.data.manifest import ShardError
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.request import open_evaluation
from unite.evaluation.target import open_subject, open_target
from unite.runs import read_run_config
from unite.storage import Store


def test_a_run_is_measured_at_its_newest_checkpoint(storage):
    target = open_target("latest", str(storage), ema=True)
    newest = latest(Store.open(storage / "tiny"))
    assert target.subject.uri == newest.uri
    assert target.subject.digest == checkpoint_digest(newest)
    assert target.subject.images == 256
    assert target.subject.home == f"{storage}/tiny/evaluations/{target.subject.digest}"
    assert (target.train.num_rows, target.held_out.num_rows) == (1500, 297)
    assert target.record == {}


def test_a_checkpoint_folder_belongs_to_its_run(storage):
    folder = latest(Store.open(storage / "tiny"))
    by_folder = open_target(folder.uri, str(storage), ema=True)
    assert by_folder.subject == open_target("tiny", str(storage), ema=True).subject
    assert by_folder.run == Store.open(storage / "tiny")


def test_raw_and_averaged_weights_are_two_subjects(storage):
    raw = open_target("tiny", str(storage), ema=False)
    assert raw.subject != open_target("tiny", str(storage), ema=True).subject


def test_a_link_of_a_model_cache_is_a_subject(storage, tmp_path):
    """The cache keeps blobs without endings; config.json lies beside the link."""
    model = load(str(storage / "tiny"))
    config = read_run_config(str(storage / "tiny"))
    write_export(model, to_dict(config), Store.open(tmp_path / "export"))
    for number, name in enumerate(("model.safetensors", "config.json")):
        (tmp_path / "export" / name).rename(tmp_path / f"blob{number}")
        (tmp_path / "export" / name).symlink_to(tmp_path / f"blob{number}")
    link = open_subject(str(tmp_path / "export" / "model.safetensors"), str(storage), ema=True)
    assert link.config == config and link.trained_here
    assert link.digest == Store.open(tmp_path / "blob0").digest()[:16]


def test_no_such_run(storage):
    with pytest.raises(CheckpointError, match=r"no run 'missing'.*tiny"):
        open_target("missing", str(storage), ema=True)


def test_a_run_without_checkpoints(storage, tmp_path):
    shutil.copy(storage / "tiny" / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match="no committed checkpoint yet"):
        open_target(str(tmp_path), str(storage), ema=True)


def test_a_folder_that_is_no_run_is_not_told_to_train(storage, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"holds no model: expected a run.*notes\.txt"):
        open_target(str(tmp_path), str(storage), ema=True)


def test_a_request_is_refused_before_its_data_are_opened_or_written(storage, monkeypatch):
    monkeypatch.setattr("unite.evaluation.target.data_folder", never)
    arguments = EvaluateArguments(run="tiny", suite=("kinds",), storage=str(storage))
    with pytest.raises(ValueError, match="--suite 'kinds' is unknown"):
        open_evaluation(arguments, str(storage))
    monkeypatch.setattr("unite.evaluation.request.chosen_suites", lambda *_: refuse("atoms"))
    with pytest.raises(ValueError, match="no suite of atoms"):
        open_evaluation(replace(arguments, suite=()), str(storage))


def refuse(kind):
    raise ValueError(f"no suite of {kind}")


def test_data_that_the_checkpoint_was_not_trained_on(storage, tmp_path):
    digits = tmp_path / "digits"
    shutil.copytree(storage / "data" / "digits", digits)
    (digits / "manifest.json").unlink()
    with pytest.raises(ValueError, match="the checkpoint was trained on data"):
        open_target("tiny", str(storage), ema=True, data=str(digits))


def test_a_held_out_set_that_was_trained_on_is_named(storage, tmp_path, caplog):
    digits = tmp_path / "digits"
    shutil.copytree(storage / "data" / "digits", digits)
    shutil.copy(digits / "train-00000-of-00001.parquet", digits / "validation-1.parquet")
    open_target("tiny", str(storage), ema=True)
    assert caplog.text == ""
    (digits / "manifest.json").unlink()
    open_target("tiny", str(storage), ema=True, eval_data=str(digits))
    assert f"1 of 2 of its files are the training set's ({digits}/validation-1.parquet)" in (
        caplog.text
    )


def test_data_that_is_not_there(storage, tmp_path):
    with pytest.raises(ShardError):
        open_target("tiny", str(storage), ema=True, data=str(tmp_path / "none"))


def test_an_export_needs_no_run(storage, tmp_path):
    model = load(str(storage / "tiny"))
    config = to_dict(open_target("tiny", str(storage), ema=True).subject.config)
    write_export(model, config, Store.open(tmp_path / "export"))
    target = open_target(str(tmp_path / "export"), str(storage), ema=True)
    assert target.run is None
    assert target.subject.trained_here
    assert target.subject.home.startswith(f"{storage}/imported/")


def test_bare_weights_need_their_data_named(storage, tmp_path):
    model = load(str(storage / "tiny"))
    config = to_dict(open_target("tiny", str(storage), ema=True).subject.config)
    config["data"]["train"] = ""
    write_export(model, config, Store.open(tmp_path / "export"))
    with pytest.raises(ValueError, match="--data"):
        open_target(str(tmp_path / "export"), str(storage), ema=True)
    digits = str(storage / "data" / "digits")
    target = open_target(str(tmp_path / "export"), str(storage), ema=True, data=digits)
    assert target.train.num_rows == 1500
