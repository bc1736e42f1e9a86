"""Damaged files of evaluations count as unfinished: they are told and made again, equally."""

import io
import logging
import shutil
import zipfile

import numpy as np
import pytest

from unite.drivers.evaluate import evaluate
from unite.drivers.features import make_reference
from unite.evaluation.arguments import ReferenceArguments
from unite.evaluation.images.fitting import FitTask, default_options
from unite.evaluation.results import read_outcomes
from unite.storage import Store


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def not_a_zip(data: bytes) -> bytes:
    return b"<html>502</html>"


def flipped(data: bytes) -> bytes:
    """One byte of the first array's numbers is another."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        first = max(file.infolist(), key=lambda info: info.file_size)
        place = first.header_offset + 30 + len(first.filename) + first.file_size
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def rewritten(data: bytes, change) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays = change(dict(file))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def lacks_one(data: bytes) -> bytes:
    return rewritten(data, lambda arrays: dict(list(arrays.items())[:-1]))


def of_another_shape(data: bytes) -> bytes:
    """One value for all features: numpy would spread it."""
    narrow = lambda arrays: {
        k: v[:1] if k.endswith("moments/sum") else v for k, v in arrays.items()
    }
    return rewritten(data, narrow)


def of_a_smaller_shape(data: bytes) -> bytes:
    """Fewer products of features than numpy could spread."""
    square = lambda arrays: {
        k: v[:2, :2] if k.endswith("moments/outer") else v for k, v in arrays.items()
    }
    return rewritten(data, square)


def of_another_task(data: bytes) -> bytes:
    return rewritten(data, lambda arrays: {"hits": np.arange(3)})


DAMAGE = (
    *(cut, empty, not_a_zip, flipped, lacks_one),
    *(of_another_shape, of_a_smaller_shape, of_another_task),
)


def values(outcomes) -> dict[str, float]:
    timed = ("seconds", "images_per")
    rows = [row.card for outcome in outcomes for row in outcome.rows]
    return {c.metric: c.value for c in rows if not c.metric.startswith(timed)}


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr("unite.terminal.tell", lines.append)
    return lines


@pytest.fixture
def measure(run_suites):
    return lambda: run_suites("generation", seed=4321, num_samples=100, solver="euler", num_steps=2)


@pytest.fixture(scope="module")
def expected():
    """Filled by the first test that measures: the right value."""
    return {}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_chunk_is_computed_again(storage, measure, expected, told, damage):
    if not expected:
        expected.update(values(measure()))
    chunk = max(storage.glob("tiny/evaluations/*/generation-*/chunks/*.npz"), key=_age)
    kept = {path: path.stat().st_mtime_ns for path in chunk.parent.iterdir()}
    whole = chunk.read_bytes()
    chunk.write_bytes(damage(whole))
    told.clear()
    assert values(measure()) == expected
    assert [line for line in told if str(chunk) in line and "is damaged: " in line]
    with np.load(chunk) as now, np.load(io.BytesIO(whole)) as before:
        assert set(now) == set(before)
        for name in set(before.files) - {"seconds"}:
            np.testing.assert_array_equal(now[name], before[name], err_msg=name)
    others = {path: path.stat().st_mtime_ns for path in chunk.parent.iterdir() if path != chunk}
    del kept[chunk]
    assert others == kept, "the others are not computed again"


def _age(path):
    return path.stat().st_mtime_ns, path.name


def test_of_whole_chunks_nothing_is_told(measure, told):
    measure()
    told.clear()
    measure()
    assert not [line for line in told if "damaged" in line]


@pytest.mark.parametrize("damage", [cut, empty, not_a_zip, flipped])
def test_a_damaged_reference_of_the_storage_is_built_again(storage, damage, caplog):
    arguments = ReferenceArguments(data="builtin:digits", extractor="pixels", num_workers=0)
    digest = make_reference(arguments, str(storage)).digest
    (file,) = (storage / "references").glob("*.npz")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert make_reference(arguments, str(storage)).digest == digest
    assert f"{file}: " in caplog.text and "built again" in caplog.text


@pytest.mark.parametrize(
    ("name", "damage"), [("extractor.json", cut), ("extractor.safetensors", empty)]
)
def test_a_damaged_extractor_of_the_storage_is_fitted_again(
    storage, request_of, monkeypatch, caplog, name, damage
):
    few = lambda *a: default_options(100, a[1])
    monkeypatch.setattr("unite.evaluation.images.fitting.default_options", few)
    changes = {
        "suite": ("generation",),
        "extractor": ("auto",),
        "num_samples": 60,
        "solver": "euler",
        "num_steps": 2,
    }
    expected = values(evaluate(request_of(**changes)))
    (folder,) = [each.parent for each in (storage / "extractors").glob("*/extractor.json")]
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    fits = []
    fit = FitTask.fit
    monkeypatch.setattr(FitTask, "fit", lambda *a: fits.append(1) or fit(*a))
    with caplog.at_level(logging.WARNING):
        assert values(evaluate(request_of(**changes))) == expected
    assert fits == [1] and str(folder) in caplog.text and "fitted again" in caplog.text


@pytest.mark.parametrize("content", [b"", b'{"outcomes": [', b"[]", b'{"outcomes": [{}]}'])
def test_damaged_results_are_made_of_the_suites_own(storage, run_suites, content, caplog):
    run_suites("compute", "entropy")
    (home,) = (storage / "tiny" / "evaluations").iterdir()
    before = {o.suite: values([o]) for o in read_outcomes(Store.open(home))}
    (home / "results.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        run_suites("entropy")
    after = {o.suite: values([o]) for o in read_outcomes(Store.open(home))}
    assert set(after) == set(before) and after["entropy"] == before["entropy"]
    assert "It counts as missing" in caplog.text


def test_a_suite_whose_results_are_damaged_is_not_kept(request_of, run_suites, caplog):
    run_suites("entropy")
    (suite,) = request_of(suite=("entropy",)).suites
    made = suite.resolved()
    assert made.is_kept()
    made.folder.write("results.json", b'{"outcomes"')
    with caplog.at_level(logging.WARNING):
        assert not made.is_kept()
    run_suites("entropy")
    assert made.is_kept()


@pytest.fixture(autouse=True)
def _clean(storage):
    yield
    shutil.rmtree(storage / "references", ignore_errors=True)
