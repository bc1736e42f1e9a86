"""The command of ablations/: its exit codes, and what it tells when it is typed once more."""

from __future__ import annotations

import pytest

from unite.commands.sweep import main
from unite.drivers.sweep import SweepResult
from unite.entry import STOPPED


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Types the sweep over sigma, whose grid ends as it is told to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def typed(**ended: bool) -> int:
        def end(sweep) -> SweepResult:
            sweep.folder.write("a.png", b"drawn")
            fields = {"out": sweep.folder, "files": ("a.png",), "stopped": False, "whole": False}
            return SweepResult(measured=(), lines=("a verdict",), **(fields | ended))

        monkeypatch.setattr("unite.drivers.sweep.run_sweep", end)
        return main("noise", "", ["--scale", "smoke", "--storage", str(tmp_path)])

    return typed


def test_only_a_whole_sweep_ends_with_0_and_is_told_again(command, capsys):
    assert command(stopped=True) == STOPPED
    assert command() == 1, "a trial has no result, or MLflow did not take one"
    assert "nothing to do" not in capsys.readouterr().out
    assert command(whole=True) == 0
    once = capsys.readouterr().out
    assert once.endswith("sweeps/sweep-noise-smoke: a.png\n")
    assert command() == 0, "nothing runs any more"
    told = capsys.readouterr().out
    assert told.startswith(once) and "nothing to do" in told


def test_help_ends_with_what_the_paper_finds(capsys):
    with pytest.raises(SystemExit):
        main("noise", "Sigma.", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Sigma. The paper finds" in text and "gFID 2.71 (sigma = 0.7)" in text
