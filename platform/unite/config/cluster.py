"""Settings of the machines that a run takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Resources that the run takes from Ray, and its restarts."""

    num_workers: int | str = 1
    """Ray Train workers (DDP ranks), or a range such as 8..64: as many as the cluster holds and the
    batch is divisible by, fewer after a loss, more at a checkpoint when there is room."""
    use_gpu: bool = False
    """Reserve one GPU per worker."""
    cpus_per_worker: float = 0.0
    """CPUs reserved per worker; 0 = at most 1, and so that Ray Data keeps half a CPU."""
    threads_per_worker: int = 0
    """Threads of CPU arithmetic in each worker; 0 = the machine's cores shared among them. On a
    machine that other work shares, 1 is the fastest for a small model."""
    device_tflops: float = 0.0
    """Peak rate of one device in TFLOP/s (10^12), as its maker states it for `training.precision`:
    the denominator of throughput/mfu. 0 = its rate at a large matrix product, measured here."""
    wait_s: float = 0.0
    """Seconds to wait for an autoscaling cluster to bring the workers' resources; 0 = they must
    be there."""
    max_failures: int = 3
    """Lost worker groups in a row, without a new checkpoint between them, that are started again
    from the last checkpoint; one more ends the run. Nodes taken away with notice do not count."""
