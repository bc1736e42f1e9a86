"""Everything that is worth measuring on a GPU, most valuable first: python benchmarks/gpu.py

It needs a plain checkout, torch >= 2.11, numpy, pyarrow, safetensors, rich, pyyaml and pillow: no
network, no Ray, no MLflow, no pretrained file. Each row is a process of its own with a limit of its
own, so that a crash or a full memory costs that row alone. After each of them DATE_gpu.md (tables)
and DATE_gpu.json (rows) in --out hold all that is known; within twelve hours, on the same card, the
same command goes on with what is missing. It ends within --minutes, whatever is left: the report
names what did not fit.

  python benchmarks/gpu.py                            25 minutes at most, report in benchmarks/
  python benchmarks/gpu.py --minutes 9 --out DIR      a part; again with the same DIR: the rest
  python benchmarks/gpu.py --dry-run                  the list, with limits
  python benchmarks/gpu.py --toy --out DIR            every kind of row on a CPU, at no real size
  python benchmarks/gpu.py --only train --again       rows with "train" in their name, anew
  python benchmarks/gpu.py --jobs cifar10 fig5 --data DIR     long jobs, after the rows

Long jobs (gpu_jobs.py) train to their end over several calls and keep their runs in --out/runs;
their small files are packed into DATE_gpu_jobs.tar.gz. Their evaluation needs the package tyro.

Arms of the training rows: `plain` is a straightforward implementation with the settings of the
released one (micro-batches of 64, recompute above F = 4, eager), `ours` is the platform's step.
"Start" runs from the start of the process to the end of the second step: cold with an empty compile
cache, warm with that of the row before. Compiled code is kept in --out/cache. The row `sampling,
plain` also needs torchdiffeq.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_report import Results

HERE = Path(__file__).resolve().parent
ROW = "ROW "
CARD = """
import torch
name = "no GPU"
if torch.cuda.is_available():
    size = torch.cuda.get_device_properties(0).total_memory / 2**30
    name = f"{torch.cuda.get_device_name()}, {size:.0f} GiB"
print(f"{name}, torch {torch.__version__}")
"""
SHORTEST_S = 20.0
"""Seconds that must be left for a row to be started."""
UNFINISHED = 75
"""Exit code of a long job whose time was over; the same call goes on with it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row, or a few that share a process."""

    name: str
    words: Sequence[str]
    """Script and arguments."""
    limit_s: float
    goal: str = ""
    """The goal that it measures."""
    cold: bool = False
    """Starts with an empty compile cache."""
    env: dict[str, str] = field(default_factory=dict)


def measured(name: str, kind: str, limit_s: float, goal: str = "", **fields: Any) -> Step:
    """A step of gpu_steps.py."""
    cold = fields.pop("cold", False)
    words = ("gpu_steps.py", kind, json.dumps(fields))
    return Step(name=name, words=words, limit_s=limit_s, goal=goal, cold=cold)


FAST = {"compile": True, "gradient_checkpointing": False}
SLOW = {"compile": True, "gradient_checkpointing": True}
RELEASED = {"arm": "plain", "micro": 2, "compile": False}


def steps() -> list[Step]:
    """All rows on a GPU, most valuable first."""
    b = {"device": "cuda", "recipe": "unite-b", "batch": 128}
    small = {"device": "cuda", "seconds": 8.0}
    draws = {"device": "cuda", "recipe": "unite-b"}
    f14, f3 = {**b, "noisings": 14}, {**b, "noisings": 3}
    return [
        measured("kernels", "kernels", 150, "all pass the probe", device="cuda"),
        measured(
            *("train F=14, chunk 2, cold", "train", 300, "145/s, MFU 48%, 60 GiB, start 90 s"),
            **{**f14, **FAST, "chunk": 2, "cold": True},
        ),
        measured(
            *("train F=14, chunk 2, warm", "train", 150, "start 25 s"),
            **{**f14, **FAST, "chunk": 2, "seconds": 4.0},
        ),
        measured(
            *("train F=14, released", "train", 150, "31.7/s on 2026-11-26"),
            **{**f14, **RELEASED, "gradient_checkpointing": True},
        ),
        measured("train F=3, chunk all", "train", 200, "350/s", **{**f3, **FAST, "chunk": 0}),
        measured(
            *("train F=3, released", "train", 120, "104.5/s on 2026-11-26"),
            **{**f3, **RELEASED, "gradient_checkpointing": False},
        ),
        measured(
            *("sampling, ours", "sampling", 200, "35/s at guidance 2"),
            **{**draws, "arms": ["heun float32", "heun"]},
        ),
        measured("train cifar10-gpu", "train", 150, "7,000/s", **small, **CIFAR),
        measured(
            *("train cifar10", "train", 90, "1,184/s on 2026-11-26"),
            **{**small, "recipe": "cifar10"},
        ),
        measured("train cifar10-gpu, no graphs", "train", 90, "", **small, **CIFAR, graphs="off"),
        measured("train qm9", "train", 150, "", **small, recipe="qm9"),
        measured("train F=14, recompute", "train", 200, "", **{**f14, **SLOW, "chunk": 0}),
        measured(
            *("train F=14, chunk 2, plain torch", "train", 200, ""),
            **{**f14, **FAST, "chunk": 2, "kernels": "plain"},
        ),
        measured("train F=14, chunk 1", "train", 150, "", **{**f14, **FAST, "chunk": 1}),
        measured("train F=14, chunk 7", "train", 150, "", **{**f14, **FAST, "chunk": 7}),
        measured("train F=3, recompute", "train", 150, "", **{**f3, **SLOW, "chunk": 0}),
        measured(
            *("train F=14, chunk 2, eager", "train", 120, ""),
            **{**f14, "chunk": 2, "compile": False, "gradient_checkpointing": False},
        ),
        measured(
            *("sampling, plain", "sampling", 200, "the ratio at equal precision"),
            **{**draws, "arms": ["plain", "plain float32"]},
        ),
        measured("sampling, compiled", "sampling", 200, "", **draws, arms=["heun compiled"]),
        measured("sampling, batch 256", "sampling", 150, "", **draws, arms=["heun"], batch=256),
    ]


CIFAR = {"recipe": "cifar10-gpu"}


def toy_steps() -> list[Step]:
    """One row of each kind on a CPU, at sizes that measure nothing."""
    tiny = {"device": "cpu", "recipe": "smoke", "noisings": 2, "batch": 8, "seconds": 0.0}
    interpreted = measured(
        "kernels", "kernels", 300, device="cpu", batch=3, length=5, width=64, repeats=1
    )
    return [
        Step(**{**vars(interpreted), "env": {"TRITON_INTERPRET": "1"}}),
        measured("train F=2, cold", "train", 300, cold=True, **tiny, chunk=1),
        measured("train F=2, released", "train", 300, **tiny, **RELEASED),
        measured("train qm9", "train", 300, **{**tiny, "recipe": "qm9-tiny", "noisings": 0}),
        measured(
            *("sampling, ours", "sampling", 300),
            **{"device": "cpu", "recipe": "smoke", "batch": 4, "arms": ["heun float32", "heun"]},
        ),
    ]


def job_steps(arguments: argparse.Namespace) -> list[Step]:
    """The long jobs that were asked for; each takes what time is left."""
    return [
        Step(
            name=f"job {name}",
            words=(
                *("gpu_jobs.py", name, "--out", str(arguments.out), "--data", arguments.data),
                *(["--toy"] if arguments.toy else []),
            ),
            limit_s=1e9,
        )
        for name in arguments.jobs
    ]


def perform(step: Step, limit_s: float, out: Path) -> tuple[str, list[dict[str, Any]]]:
    """Run a step in a process group of its own; its state and rows."""
    cache = out / "cache"
    if step.cold:  # and the rows after it start warm on what it compiles
        shutil.rmtree(cache, ignore_errors=True)
    env = {
        **os.environ,
        **step.env,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(HERE.parent / "platform"), os.environ.get("PYTHONPATH")])
        ),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "BENCHMARK_STARTED": str(time.time()),
        "BENCHMARK_SECONDS": str(limit_s),
    }
    words = [sys.executable, str(HERE / step.words[0]), *step.words[1:]]
    process = subprocess.Popen(
        words,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    late = False
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    rows = [json.loads(line[len(ROW) :]) for line in output.splitlines() if line.startswith(ROW)]
    if late:
        return f"cut after {limit_s:.0f} s", rows
    if process.returncode == UNFINISHED:
        return "cut: the same command goes on with it", rows
    if process.returncode:
        print(output[-4000:], flush=True)
        return f"exit code {process.returncode}: {reason_of(output)}", rows
    return "done", rows


def reason_of(output: str) -> str:
    """The last line of an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def card_of() -> str:
    """Card and torch, asked for in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True)
    return done.stdout.strip() or "torch is missing"


def commit_of() -> str:
    """Commit of the checkout; "?" outside of one."""
    words = ["git", "-C", str(HERE), "log", "-1", "--format=%h"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "?"


def main(arguments: argparse.Namespace) -> int:
    """Measure what fits; 0 if every row that was tried has its numbers."""
    ends = time.monotonic() + 60 * arguments.minutes
    todo = toy_steps() if arguments.toy else steps()
    todo = [*todo, *job_steps(arguments)]
    wanted = [s for s in todo if any(part in s.name for part in arguments.only or [""])]
    if arguments.dry_run:
        for step in wanted:
            limit = f"{step.limit_s:.0f} s at most" if step.limit_s < 1e6 else "what time is left"
            print(f"{step.name:36} {limit:20} {step.goal}")
        return 0
    results = Results(arguments.out, card_of(), commit_of())
    print(results.title, flush=True)
    failed = 0
    for step in wanted:
        if results.has(step.name) and not arguments.again:
            print(f"{step.name}: measured before", flush=True)
            continue
        left = ends - time.monotonic()
        if left < SHORTEST_S and not arguments.toy:
            before = results.rows.get(step.name, {}).get("rows", [])
            results.keep(step.name, step.goal, "no time was left", before)
            continue
        started = time.monotonic()
        state, rows = perform(step, min(step.limit_s, left), results.out)
        failed += state != "done" and not state.startswith("cut")
        results.keep(step.name, step.goal, state, rows)
        results.pack()
        print(f"{step.name}: {state}, {time.monotonic() - started:.0f} s", flush=True)
        for row in rows:
            print("   " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    print("\n".join(results.lines()), flush=True)
    return 1 if failed else 0


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=25.0, help="time within which it ends")
    add("--out", type=Path, default=HERE, help="folder of report, rows, runs and compile cache")
    add("--only", nargs="*", help="parts of the names of rows")
    add("--again", action="store_true", help="measure what is there already anew")
    add("--dry-run", action="store_true", help="print the list")
    add("--toy", action="store_true", help="on a CPU, at sizes that measure nothing")
    add("--jobs", nargs="*", default=[], choices=["cifar10", "fig5", "qm9"], help="long jobs")
    add("--data", default="shared/data", help="folder with cifar10/ and qm9_dft/, for the jobs")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(parse()))
