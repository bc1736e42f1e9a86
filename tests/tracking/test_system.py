"""System metrics, with and without GPUs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from unite.tracking import SYSTEM_METRICS
from unite.tracking.system import GIB, SystemSampler


class NvmlError(Exception):
    pass


def fake_nvml(count: int = 2, *, initialises: bool = True) -> SimpleNamespace:
    def init():
        if not initialises:
            raise NvmlError

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=init,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda uuid: int(uuid.removeprefix(b"GPU-")),
        nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=50 + 10 * gpu),
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=(gpu + 1) * GIB),
        nvmlDeviceGetPowerUsage=lambda gpu: 100_000 * (gpu + 1),
    )


def test_the_machine_without_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(initialises=False))
    sample = SystemSampler().sample()
    assert set(sample) == {"system/cpu_percent", "system/memory_gib", "system/memory_percent"}
    assert 0 < sample["system/memory_percent"] <= 100
    assert sample["system/memory_gib"] > 0


def test_nvml_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert len(SystemSampler().sample()) == 3


@pytest.mark.parametrize(
    "visible, percent, gib, watts",
    [(None, 55, 1.5, 300), ("1", 60, 2, 200), ("GPU-0", 50, 1, 100), ("0, 1", 55, 1.5, 300)],
)
def test_the_gpus_that_the_process_sees(monkeypatch, visible, percent, gib, watts):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    sample = SystemSampler().sample()
    assert set(sample) == set(SYSTEM_METRICS)
    assert sample["system/gpu_percent"] == percent
    assert sample["system/gpu_memory_gib"] == gib
    assert sample["system/gpu_power_w"] == watts


def test_no_visible_gpu_means_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(SystemSampler().sample()) == 3
