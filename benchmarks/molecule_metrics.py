"""Chemistry of molecules: two processes against one, and the native match against Open Babel's.

    python benchmarks/molecule_metrics.py                                1,000 molecules of QM9
    python benchmarks/molecule_metrics.py --data shards/qm9              those of one's own shards

Headlines: seconds of one process over those of two for the verdicts of RDKit's route (at least 1.7
on two free cores), and CPU seconds of the paper's match through Open Babel over those of the native
match on the same pairs (at least 20). Verdicts are equal whatever the processes (checked); the
pairs are molecules and themselves, moved by 0.01 A. Arms take turns; the time that a process takes
to import its packages, once, is left out of both. On a machine with other work the first ratio
shows that work: it is measured by a clock, because two processes use twice the CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import psutil
import torch
import tyro

from unite.config.domains import MoleculesConfig
from unite.data.loader import sequential_batches
from unite.data.parts import measured_split
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.atoms.domain import AtomsDomain
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.chemistry import fields_of
from unite.domains.atoms.verdicts.isolated import Worker

CONFIG = MoleculesConfig()
METHANE = [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63]]
METHANE += [[0.63, -0.63, -0.63]]

LEAST_SECONDS = 1e-6
"""CPU seconds of work that is shorter than a tick of the process' clock."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    data: str = ""
    """Folder of shards of molecules; empty = methane, over and over."""
    molecules: int = 1000
    """Molecules that RDKit judges."""
    matched: int = 200
    """Pairs that both matches compare."""
    rounds: int = 3
    """Turns of each arm."""


def structures_of(options: Options) -> list[Structure]:
    """The first molecules of the data."""
    domain = build_domain(CONFIG)
    assert isinstance(domain, AtomsDomain)
    if not options.data:
        one = Structure(numbers=np.array([6, 1, 1, 1, 1]), positions=np.array(METHANE))
        return [one] * options.molecules
    shards = ShardSet.open(options.data, measured_split(options.data), domain.columns)
    found: list[Structure] = []
    for batch in sequential_batches(shards, domain, batch_size=256, limit=options.molecules):
        sample, _ = domain.to_sample({k: torch.from_numpy(v) for k, v in batch.fields.items()})
        found += domain.structures(domain.as_reconstruction(sample))
    return found


def judge(structures: list[Structure], workers: list[Worker]) -> tuple[float, list]:
    """Seconds of a clock that started workers take for RDKit's verdicts, and these."""
    fields = [fields_of(each, tolerance=CONFIG.bond_tolerance) for each in structures]
    parts = [fields[start :: len(workers)] for start in range(len(workers))]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(workers)) as pool:
        answers = pool.map(
            lambda pair: [pair[0].ask("rdkit", each) for each in pair[1]],
            zip(workers, parts, strict=True),
        )
        found = list(answers)
    seconds = time.perf_counter() - started
    return seconds, [found[i % len(workers)][i // len(workers)] for i in range(len(fields))]


def native_match(pairs: list[tuple[Structure, Structure]]) -> float:
    """CPU seconds of the native match, as the reconstruction suite computes it."""
    domain = build_domain(CONFIG)
    batches = []
    for index in (0, 1):
        fields = {
            "numbers": torch.zeros(len(pairs), CONFIG.max_atoms, dtype=torch.uint8),
            "positions": torch.zeros(len(pairs), CONFIG.max_atoms, 3),
        }
        for row, pair in enumerate(pairs):
            size = len(pair[index].numbers)
            fields["numbers"][row, :size] = torch.from_numpy(pair[index].numbers)
            fields["positions"][row, :size] = torch.from_numpy(pair[index].positions)
        batches.append(domain.to_sample(fields)[0])
    started = time.process_time()
    domain.reconstruction_metrics(domain.as_reconstruction(batches[0]), batches[1])
    return time.process_time() - started


def open_babel_match(pairs: list[tuple[Structure, Structure]], worker: Worker) -> float:
    """CPU seconds of the match through Open Babel and InChI, in its process."""
    process = max(psutil.Process().children(), key=lambda each: each.create_time())
    started = sum(process.cpu_times()[:2])
    for made, true in pairs:
        worker.ask("match_molecules", fields_of(made, true=fields_of(true)))
    return sum(process.cpu_times()[:2]) - started


def compare_processes(structures: list[Structure], rounds: int) -> float:
    """Median of seconds of one process over those of two."""
    workers = [Worker() for _ in range(2)]
    for worker in workers:
        worker.ask("rdkit", fields_of(structures[0], tolerance=CONFIG.bond_tolerance))
    ratios, answers = [], []
    for _ in range(rounds):
        one, first = judge(structures, workers[:1])
        two, second = judge(structures, workers)
        ratios.append(one / two)
        answers += [first == second]
        print(f"| {len(structures) / one:,.0f} | {len(structures) / two:,.0f} |")
    for worker in workers:
        worker.close()
    if not all(answers):
        raise SystemExit("the verdicts of one process and of two differ")
    return statistics.median(ratios)


def compare_matches(structures: list[Structure], rounds: int) -> float:
    """Median of CPU seconds through Open Babel over those of the native match."""
    generator = np.random.default_rng(0)
    pairs = [
        (replace(s, positions=s.positions + generator.normal(0, 0.01, s.positions.shape)), s)
        for s in structures
    ]
    worker = Worker()
    worker.ask("match_molecules", fields_of(pairs[0][0], true=fields_of(pairs[0][1])))
    native_match(pairs)
    ratios = []
    for _ in range(rounds):
        theirs, ours = open_babel_match(pairs, worker), native_match(pairs)
        theirs, ours = max(theirs, LEAST_SECONDS), max(ours, LEAST_SECONDS)
        ratios.append(theirs / ours)
        print(f"| {len(pairs) / theirs:,.0f} | {len(pairs) / ours:,.0f} |")
    worker.close()
    return statistics.median(ratios)


def main(options: Options) -> tuple[float, float]:
    """Measure both, print the tables; returns the two ratios."""
    torch.set_num_threads(1)
    structures = structures_of(options)
    print("| one process, molecules/s | two |\n| --- | --- |")
    processes = compare_processes(structures, options.rounds)
    print(f"verdicts equal; two processes are {processes:.2f} times as fast as one")
    print("| Open Babel, pairs per CPU second | native |\n| --- | --- |")
    match = compare_matches(structures[: options.matched], options.rounds)
    print(f"the native match is {match:.0f} times as fast")
    return processes, match


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
