"""A run of molecules and one of crystals, evaluated by the suites that they have."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny_run import dry_round
from trainers import trained
from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.config.validate import validate
from unite.domains.atoms.structure import Structure
from unite.drivers.evaluate import evaluate, open_evaluation
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import partition
from unite.evaluation.dataset import undecodable
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import read_chunks
from unite.evaluation.suites import suites_for
from unite.evaluation.suites.atoms_reconstruction import Reconstruction

ALIKE = ("unique_pct", "novel_pct", "novel_all_pct")


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


def run_of(name: str, folder):
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
    return trained(validate(change(recipe(name), changes)))


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
    trainer = run_of(name, tmp_path)
    asked = EvaluateArguments(
        run=trainer.writer.run.uri, suite=("reconstruction",), num_workers=0, track=False
    )
    (outcome,) = evaluate(open_evaluation(asked, str(tmp_path / "runs")))
    values = {row.card.metric: row.card.value for row in outcome.rows}
    assert {"match_pct", "exact_pct", "types_pct", "rmsd_all", "rmsd_median"} <= values.keys()
    assert 0 <= values["types_pct"] <= 100 and values["rmsd_all"] > 0
    assert outcome.rows[0].card.num_samples == len(cells)
    if find_spec("pymatgen") and find_spec("openbabel"):
        card = by_metric(outcome)["match_pct" if crystals else "match_openbabel_pct"].card
        assert card.details["match"] == ("match_crystals" if crystals else "match_molecules")
        assert card.versions["pymatgen"]
        assert ("smact" in card.versions) == crystals
        assert ("match_valid_pct" in values) == crystals
        if crystals:
            card = by_metric(outcome)["match_valid_pct"].card
            assert (card.details["stol"], card.details["cell_angles"]) == (0.5, [50, 130])
    (suite,) = open_evaluation(asked, str(tmp_path / "runs")).suites
    assert outcome.remarks == suite.missing
    (remark,) = undecodable(suite.data, suite.total + 1, suite.total)
    assert f"1 of the first {suite.total + 1} rows of {tmp_path}" in remark
    assert suite.on_cpu and not suite.decoded.on_cpu, "matching leaves the GPU alone"
    assert len(suite.decoded.read(suite.chunks()[0])) == len(suite.chunks()[0])
    assert "HEAVY []" in (told := dry_round(tmp_path / "runs")), told
    assert "results: 1 there, 5 missing" in told
    with pytest.raises(ValueError, match="'probe' is unknown"):
        open_evaluation(replace(asked, suite=("probe",)), str(tmp_path / "runs"))


def test_a_molecule_is_matched_with_its_own_true_one(textbook_molecules):
    """Moved as a whole it is the same one; another molecule has no distance."""
    pytest.importorskip("pymatgen")
    pytest.importorskip("openbabel")
    water, methane = (
        Structure(numbers=np.array(numbers), positions=np.array(positions, float))
        for numbers, positions in (textbook_molecules[name] for name in ("water", "methane"))
    )
    moved = replace(water, positions=water.positions[:, [1, 2, 0]] + 3.0)
    suite = SimpleNamespace(matcher="match_molecules", crystals=False)
    found = Reconstruction._matched(suite, [moved, methane], [water, water], Instruments())
    assert found["distance"][0] == pytest.approx(0, abs=1e-6) and found.keys() == {"distance"}
    assert np.isnan(found["distance"][1])


def test_a_crystal_is_matched_with_its_own_true_one(textbook_crystals):
    """So is it with shifted coordinates; both are valid only where each is."""
    pytest.importorskip("pymatgen")
    salt, silicon = (crystal_of(textbook_crystals[name]) for name in ("NaCl", "Si"))
    shifted = replace(salt, frac=(salt.frac + 0.25) % 1)
    crushed = replace(silicon, lengths=silicon.lengths / 8)  # atoms 0.29 A apart
    suite = SimpleNamespace(matcher="match_crystals", crystals=True)
    made, true = [shifted, silicon, silicon], [salt, salt, crushed]
    found = Reconstruction._matched(suite, made, true, Instruments())
    assert found["distance"][0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(found["distance"][1])
    assert found["both_valid"].tolist() == [True, True, False]


def crystal_of(cell) -> Structure:
    arrays = {name: np.array(cell[name], float) for name in ("frac", "lengths", "angles")}
    numbers = np.array(cell["numbers"])
    return Structure(numbers=numbers, positions=np.zeros((len(numbers), 3)), **arrays)


@pytest.mark.parametrize("config", [MoleculesConfig(), CrystalsConfig()])
def test_they_have_the_suites_of_every_domain_but_the_probe(config):
    assert list(suites_for(config)) == [
        *("generation", "reconstruction", "alignment", "trajectory", "entropy", "compute")
    ]


def asked_of(trainer, **changes) -> EvaluateArguments:
    fields = {"run": trainer.writer.run.uri, "suite": ("generation",), "num_workers": 0}
    return EvaluateArguments(**fields, track=False, **changes)


def by_metric(outcome) -> dict:
    return {row.card.metric: row for row in outcome.rows}


@pytest.fixture(scope="module")
def molecules(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("molecules")
    cells = request.getfixturevalue("textbook_molecules")
    write_molecules(cells, folder / "train-0.parquet", 4)
    write_molecules(cells, folder / "test-0.parquet", 1)
    return run_of("qm9-tiny", folder)


def test_molecules_are_judged_beside_the_truth(molecules, textbook_molecules, monkeypatch):
    pytest.importorskip("rdkit")
    pytest.importorskip("openbabel")
    pytest.importorskip("posebusters")
    storage = molecules.writer.run.uri.rsplit("/", 1)[0]
    asked = asked_of(molecules, num_samples=40, pose_samples=3)
    (outcome,) = evaluate(open_evaluation(asked, storage))
    rows = by_metric(outcome)
    assert {"w1_bonds", "tv_elements", "nfe", "valid_rdkit_pct"} <= rows.keys()
    truth = {name: row.card.details.get("truth") for name, row in rows.items()}
    assert truth["valid_rdkit_pct"] == truth["valid_strict_pct"] == 100
    assert truth["stable_atoms_pct"] <= 100 and truth["w1_bonds"] > 0
    assert "truth 100 +- 0" in rows["valid_strict_pct"].note
    assert rows["valid_pct"].paper.value == 94.90
    assert rows["valid_pct"].card.versions["rdkit"]
    assert rows["valid_pct"].card.num_samples == 40
    assert f"truth of {len(textbook_molecules)} held-out" in outcome.protocol

    # Other backends draw nothing again.
    monkeypatch.setattr("unite.evaluation.atoms.samples.Samples.draw", None)
    again = replace(asked, pose_samples=0)
    (other,) = evaluate(open_evaluation(again, storage))
    assert by_metric(other)["w1_bonds"].card.value == rows["w1_bonds"].card.value
    assert "pb_all_pct" not in by_metric(other)


def test_figures_of_image_models_do_not_stand_beside_molecules(molecules):
    storage = molecules.writer.run.uri.rsplit("/", 1)[0]
    asked = replace(asked_of(molecules), suite=("entropy", "compute", "alignment"))
    asked = replace(asked, analysis_images=4)
    outcomes = evaluate(open_evaluation(asked, storage))
    assert len(outcomes) == 3
    assert all(row.paper is None for outcome in outcomes for row in outcome.rows)
    alignment = next(each for each in outcomes if each.suite == "alignment")
    assert json.loads(alignment.files["alignment.json"])["noun"] == "molecule"


def test_without_packages_the_rest_is_measured_and_the_notice_names_the_extra(
    molecules, monkeypatch
):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("unite.domains.atoms.verdicts.chemistry.version", none)
    storage = molecules.writer.run.uri.rsplit("/", 1)[0]
    asked = asked_of(molecules, num_samples=33)
    evaluation = open_evaluation(asked, storage)
    assert any('pip install -e ".[chem]"' in line for line in evaluation.notices)
    assert any('pip install -e ".[chem,chem-parity]"' in line for line in evaluation.notices)
    (outcome,) = evaluate(evaluation)
    assert {"stable_atoms_pct", "w1_bonds"} <= by_metric(outcome).keys()
    assert "valid_rdkit_pct" not in by_metric(outcome)
    with pytest.raises(ValueError, match="posebusters is not installed: pip install"):
        open_evaluation(replace(asked, pose_samples=2), storage)


@pytest.mark.fault
@pytest.mark.slow
def test_a_driver_killed_during_chemistry_loses_the_chunk_in_flight_alone(molecules, root):
    """kill -9 while structures are judged: what is judged stays, no process is left behind, and the
    same request judges the rest."""
    pytest.importorskip("rdkit")
    run, num = Path(molecules.writer.run.uri), 640
    asked = asked_of(molecules, num_samples=num, seed=7, num_steps=1)
    words = [sys.executable, str(root / "jobs" / "evaluate.py"), "--run", str(run), "--no-track"]
    words += ["--storage", str(run.parent), "--suite", "generation", "--num-samples", str(num)]
    words += ["--seed", "7", "--num-steps", "1", "--num-workers", "0"]

    def judged() -> set[Path]:
        return set(run.glob("evaluations/*/generation-*/chunks/*.npz"))

    before = judged()
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(judged() - before) < 2:
        assert driver.poll() is None, driver.stdout and driver.stdout.read()
        time.sleep(0.01)
    chemistry = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.communicate(timeout=60)
    assert chemistry and not psutil.wait_procs(chemistry, timeout=60)[1]
    kept = {path: path.stat().st_mtime_ns for path in judged() - before}
    total = len(partition("generation", num))
    assert 2 <= len(kept) < total
    (outcome,) = evaluate(open_evaluation(asked, str(run.parent)))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(judged() - before) == total
    assert by_metric(outcome)["valid_rdkit_pct"].card.num_samples == num


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"labels": "uniform"}, "--labels uniform"),
        ({"cfg_scale": 2.0}, "--cfg-scale 2.0"),
        ({"extractor": ("pixels",)}, "--extractor pixels"),
    ],
)
def test_flags_of_images_are_refused_for_molecules(molecules, changes, flag):
    with pytest.raises(ValueError, match=f"{flag} has no effect on generation of molecules"):
        open_evaluation(asked_of(molecules, **changes), molecules.writer.run.uri)


def test_crystals_are_judged_beside_the_truth(tmp_path, textbook_crystals):
    write_crystals(textbook_crystals, tmp_path / "train-0.parquet", 4)
    write_crystals(textbook_crystals, tmp_path / "test-0.parquet", 1)
    trainer = run_of("mp20-tiny", tmp_path)
    asked = asked_of(trainer, num_samples=32)
    (outcome,) = evaluate(open_evaluation(asked, str(tmp_path / "runs")))
    rows = by_metric(outcome)
    for name in ("struct_pct", "comp_pct", "valid_pct"):
        assert rows[name].card.details["truth"] == 100, name
        assert rows[name].paper is not None
    assert "w1_num_elements" in rows
    assert rows["struct_pct"].card.details["cell_angles"] == [50, 130]
    assert "cell_angles" not in rows["comp_pct"].card.details
    (suite,) = open_evaluation(asked, str(tmp_path / "runs")).suites
    drawn = suite.samples.combine(read_chunks(suite.samples))
    assert by_metric(drawn).keys() == {"nfe", "passes", "images_per_s"}
    for name, row in by_metric(drawn).items():
        assert (row.card.suite, row.card.value) == ("samples", rows[name].card.value)
    assert rows["comp_pct"].card.versions["smact"]
    if find_spec("pymatgen"):
        assert rows["comp_pct"].card.versions["pymatgen"]
        held_out = {name: rows[name].card.details.get("truth") for name in ALIKE if name in rows}
        # All held-out crystals are in the training set, silicon in two cells.
        assert held_out.get("novel_pct", 0) == 0
        assert held_out.get("novel_all_pct") is None
