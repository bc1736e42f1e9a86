"""True structures: judged as drawn ones are, kept by the data's digest, named as in tables."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.domains import MoleculesConfig
from unite.domains import build_domain
from unite.evaluation.atoms import truth as module
from unite.evaluation.atoms.rules import Rules
from unite.evaluation.atoms.truth import data_name, known_data, true_structures
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import work_items

COLUMNS = build_domain(MoleculesConfig()).columns


def write(folder, split: str, molecules) -> Dataset:
    folder.mkdir(exist_ok=True)
    table = {
        "numbers": [bytes(numbers) for numbers, _ in molecules],
        "positions": [np.array(places, "<f4").tobytes() for _, places in molecules],
    }
    pq.write_table(pa.table(table), folder / f"{split}-0.parquet")
    return Dataset.open(str(folder), split, COLUMNS)


@pytest.fixture
def target(tmp_path, textbook_molecules):
    """What a target says of its data, in two folders, one of which has a further split."""
    molecules = list(textbook_molecules.values())
    train = write(tmp_path / "train", "train", molecules[:5])
    held_out = write(tmp_path / "held", "eval", molecules[5:])
    write(tmp_path / "held", "test", molecules[:2])
    config = SimpleNamespace(domain=MoleculesConfig())
    return SimpleNamespace(
        subject=SimpleNamespace(config=config),
        storage=str(tmp_path / "runs"),
        train=train,
        held_out=held_out,
    )


def rules() -> Rules:
    """Those that need no package."""
    return Rules(periodic=False, stability=True)


def test_the_truth_is_every_held_out_row_judged_once_for_all_checkpoints(
    target, monkeypatch, textbook_molecules
):
    task = true_structures(target.held_out, target, rules())
    assert task.total == target.held_out.num_rows
    for item in work_items(task):
        item.compute(Instruments())
    judged = task.judged()
    sizes = [len(numbers) for numbers, _ in list(textbook_molecules.values())[5:]]
    assert judged["atoms"].tolist() == sizes, "padding is no atom"
    assert judged["stable"].sum() <= judged["atoms"].sum()
    monkeypatch.setattr(Rules, "judge", None)  # another checkpoint's evaluation judges nothing
    again = true_structures(target.held_out, target, rules())
    assert again.digest == task.digest and all(item.finished for item in work_items(again))
    other = true_structures(target.held_out, target, Rules(periodic=False, tolerance=0.3))
    assert other.digest != task.digest


def test_known_sets_begin_with_the_training_set_and_hold_every_split_once(target):
    found = known_data(target)
    assert found[0] == target.train
    assert [each.split for each in found] == ["train", "eval", "test"]
    assert len({each.digest for each in found}) == 3


@pytest.mark.parametrize(
    ("name", "rows", "shown"),
    [
        ("qm9", (100_000, 12_831), "QM9"),
        ("qm9", (100_000, 13_083), "QM9"),
        ("qm9", (30_000, 5_000), "QM9, 30k"),
        ("qm9", (400, 50), "QM9, 400"),
        ("qm9", (100_000, 5_000), "QM9, 100k"),
        ("mp20", (27_136, 9_046), "MP20"),
        ("mp20", (8_255, 7_149), "MP20 subset"),
        ("perov5", (3_787, 3_785), "PEROV5"),
    ],
)
def test_only_the_whole_data_set_has_its_plain_name(target, monkeypatch, name, rows, shown):
    manifest = SimpleNamespace(preparation={"data_set": name})
    opened = SimpleNamespace(open=lambda *_: SimpleNamespace(manifest=manifest))
    monkeypatch.setattr(module, "ShardSet", opened)
    target.train, target.held_out = (
        SimpleNamespace(num_rows=count, uri="shards/x", split="train") for count in rows
    )
    assert data_name(target) == shown


def test_data_of_no_known_set_has_the_name_of_its_folder(target):
    assert data_name(target) == "train"
