"""The machine that rank 0 runs on, sampled by ourselves: MLflow's sampler needs its fluent API."""

from __future__ import annotations

import os
from typing import Any

import psutil

from unite.words import GIB

SYSTEM_METRICS: dict[str, str] = {
    "system/cpu_percent": "CPU use of the machine of rank 0, mean over cores, 0..100",
    "system/memory_gib": "memory in use on that machine, GiB",
    "system/memory_percent": "share of its memory in use, 0..100",
    "system/gpu_percent": "use of the GPUs that rank 0 sees, mean, 0..100",
    "system/gpu_memory_gib": "memory in use on those GPUs, mean, GiB",
    "system/gpu_power_w": "power that those GPUs draw together, W",
}
"""The frozen names of the system metrics, with unit and meaning."""


class SystemSampler:
    """Reads the metrics above; those of GPUs only where NVML and a GPU are."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the first call only starts the measurement
        self._nvml, self._gpus = _open_gpus()

    def sample(self) -> dict[str, float]:
        """Current values by metric name."""
        memory = psutil.virtual_memory()
        return {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_gib": (memory.total - memory.available) / GIB,
            "system/memory_percent": memory.percent,
            **self._sample_gpus(),
        }

    def _sample_gpus(self) -> dict[str, float]:
        if not self._gpus:
            return {}
        nvml, count = self._nvml, len(self._gpus)
        try:
            use = [nvml.nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in self._gpus]
            memory = [nvml.nvmlDeviceGetMemoryInfo(gpu).used for gpu in self._gpus]
            milliwatts = [nvml.nvmlDeviceGetPowerUsage(gpu) for gpu in self._gpus]
        except nvml.NVMLError:  # a slice of a GPU (MIG) reports no use
            return {}
        return {
            "system/gpu_percent": sum(use) / count,
            "system/gpu_memory_gib": sum(memory) / count / GIB,
            "system/gpu_power_w": sum(milliwatts) / 1000,
        }


def _open_gpus() -> tuple[Any, list[Any]]:
    """NVML and the GPUs that this process sees (CUDA_VISIBLE_DEVICES: numbers or UUIDs)."""
    try:
        import pynvml
    except ImportError:
        return None, []
    try:
        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = range(pynvml.nvmlDeviceGetCount()) if visible is None else visible.split(",")
        return pynvml, [_open_gpu(pynvml, str(name).strip()) for name in names if name != ""]
    except pynvml.NVMLError:
        return None, []


def _open_gpu(nvml: Any, name: str) -> Any:
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name.encode())
