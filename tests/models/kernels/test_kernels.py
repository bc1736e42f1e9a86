"""Fused kernels against their plain forms: values and every gradient, in float64, at odd sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unite.models.kernels.choose import unusable, use_kernels

HERE = Path(__file__).parent


def test_kernels_in_the_interpreter_of_triton() -> None:
    pytest.importorskip("triton")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, HERE / "interpreted.py"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_cpu_computes_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    block = torch.nn.Sequential()
    assert not use_kernels(block, torch.device("cpu"), width=64, num_heads=2)


def test_an_old_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr("unite.models.kernels.choose.find_spec", lambda name: object())
    assert unusable(torch.device("cuda")) == "Tesla T4 has compute capability 7.5, they need 8.0"
