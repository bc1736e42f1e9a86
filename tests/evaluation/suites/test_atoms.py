"""A run of molecules and one of crystals, evaluated by the suites that they have."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.config.validate import validate
from unite.data.loader import local_reader
from unite.drivers.evaluate import evaluate, open_evaluation
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.suites import suites_for
from unite.tracking import NullTracker
from unite.training.parallelize import World
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer


def write_molecules(textbook_molecules, path, copies: int) -> None:
    cells = list(textbook_molecules.values()) * copies
    table = {
        "numbers": [bytes(numbers) for numbers, _ in cells],
        "positions": [np.array(p, "<f4").tobytes() for _, p in cells],
    }
    pq.write_table(pa.table(table), path)


def write_crystals(textbook_crystals, path, copies: int) -> None:
    cells = list(textbook_crystals.values()) * copies
    columns = {"numbers": [bytes(cell["numbers"]) for cell in cells]}
    for name in ("frac", "lengths", "angles"):
        columns[name] = [np.array(cell[name], "<f8").tobytes() for cell in cells]
    pq.write_table(pa.table(columns), path)


def trained(name: str, folder):
    """A run of a few steps."""
    changes = {
        "name": name,
        "storage": str(folder / "runs"),
        "data.train": str(folder),
        "data.max_bad_fraction": 0.0,
        "training.batch_size": 8,
        "training.epochs": 1.0,
        "model.encoder.depth": 1,
        "model.decoder.depth": 1,
        "evaluation.num_samples": 2,
        "evaluation.num_images": 4,
        "sampling.num_steps": 2,
    }
    run = open_run(validate(change(recipe(name), changes)))
    begin(run)
    trainer = build_trainer(Job.of(run), World(), NullTracker(), local_reader)
    trainer.run()
    trainer.stream.close()
    return trainer


@pytest.mark.parametrize("name", ["qm9-tiny", "mp20-tiny"])
def test_reconstruction_is_measured_and_there_is_no_probe(
    name, tmp_path, textbook_molecules, textbook_crystals
):
    crystals = name.startswith("mp20")
    write, cells = (
        (write_crystals, textbook_crystals) if crystals else (write_molecules, textbook_molecules)
    )
    write(cells, tmp_path / "train-0.parquet", 4)
    write(cells, tmp_path / "test-0.parquet", 1)
    trainer = trained(name, tmp_path)
    asked = EvaluateArguments(
        run=trainer.writer.run.uri, suite=("reconstruction",), num_workers=0, track=False
    )
    (outcome,) = evaluate(open_evaluation(asked, str(tmp_path / "runs")))
    values = {row.card.metric: row.card.value for row in outcome.rows}
    assert {"match_pct", "exact_pct", "types_pct", "rmsd_all", "rmsd_median"} <= values.keys()
    assert 0 <= values["types_pct"] <= 100 and values["rmsd_all"] > 0
    assert outcome.rows[0].card.num_samples == len(cells)
    with pytest.raises(ValueError, match="'probe' is unknown"):
        open_evaluation(replace(asked, suite=("probe",)), str(tmp_path / "runs"))


@pytest.mark.parametrize("config", [MoleculesConfig(), CrystalsConfig()])
def test_they_have_the_suites_of_every_domain_but_the_probe(config):
    assert list(suites_for(config)) == [
        *("reconstruction", "alignment", "trajectory", "entropy", "compute")
    ]
