"""A trial of molecules, trained and measured in this process as a trial inside Tune is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unite import tracking
from unite.ablation.options import SweepOptions
from unite.ablation.results import read_result
from unite.ablation.trials import expand
from unite.cluster.resources import TrialLayout
from unite.config.axes import find_axis
from unite.config.schema import TrackingConfig
from unite.drivers import sweep as driver
from unite.drivers.trial import Context, run_trial
from unite.training.runs import open_run


def test_a_trial_of_molecules_ends_with_distances_that_need_no_extractor(
    tmp_path, textbook_molecules, monkeypatch
):
    monkeypatch.setattr("unite.drivers.trial.describe_cluster", dict)
    monkeypatch.setattr("unite.evaluation.target.measured_split", lambda store: "test")
    for split, copies in {"train": 20, "eval": 3, "test": 2}.items():
        cells = list(textbook_molecules.values()) * copies
        columns = {
            "numbers": [bytes(numbers) for numbers, _ in cells],
            "positions": [np.array(positions, "<f4").tobytes() for _, positions in cells],
        }
        pq.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    options = SweepOptions(
        scale="molecules",
        values=("neither",),
        seeds=1,
        epochs=0.5,
        samples=4,
        data=str(tmp_path),
        storage=str(tmp_path / "runs"),
        tracking=TrackingConfig(enabled=False),
    )
    sweep = expand(find_axis("pairing"), options)
    driver._prepare_features(sweep)
    references = tmp_path / "runs" / "references"
    prepared = sorted(path.name for path in references.iterdir())
    (work,) = sweep.works
    context = Context(
        sweep=sweep,
        parent=None,
        layout=TrialLayout(concurrent=1, trial_cpus=1.0),
        login=tracking.Login.of_this_process(),
    )
    told = run_trial({"work": work.digest}, works={work.digest: work}, context=context)
    assert told == {"state": "finished"}
    result = read_result(open_run(work.config), work.trials[0])
    assert result is not None
    measured = result.metrics
    assert {"eval/generation/w1_bonds", "eval/reconstruction/match_pct"} <= measured.keys()
    # What is prepared once for all trials is what each of them needs: they measure the test split.
    assert prepared and sorted(path.name for path in references.iterdir()) == prepared
