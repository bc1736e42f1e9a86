"""The request: an evaluation is a target and its suites.

evaluation = open_evaluation(arguments, storage)     # checks everything, computes nothing
evaluation = compute(evaluation, run)                # `run` gives work items to workers
outcomes = conclude(evaluation)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from unite.checkpoints.lease import hold
from unite.config.domains import DomainConfig
from unite.domains import build_domain
from unite.evaluation.arguments import EvaluateArguments, check, check_of_domain, chosen_suites
from unite.evaluation.chunks import FOLDER as CHUNKS
from unite.evaluation.guidance import SUITE as CFG_SEARCH
from unite.evaluation.report import markdown
from unite.evaluation.results import RESULTS_FILE, Outcome, merge_outcomes, write_outcomes
from unite.evaluation.suite import History, Run, Suite, read_chunks, work_items
from unite.evaluation.suites import all_suites, suites_for
from unite.evaluation.target import Target, open_target
from unite.storage import Store
from unite.words import count

REPORT_FILE = "report.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A checked request."""

    arguments: EvaluateArguments
    target: Target
    suites: tuple[Suite, ...]

    @property
    def home(self) -> Store:
        """Folder of all files of this checkpoint's evaluations."""
        return Store.open(self.target.subject.home)

    @property
    def title(self) -> str:
        """Line that names the measurement."""
        subject = self.target.subject
        noun = build_domain(subject.config.domain).noun
        seen = f" after {count(subject.images, noun)}" if subject.images else ""  # a file says none
        return (
            f"{self.target.run or subject.uri}{seen}, "
            f"{'averaged' if subject.ema else 'raw'} weights (checkpoint {subject.digest}): "
            f"{', '.join(suite.suite for suite in self.suites)}"
        )

    @property
    def notices(self) -> list[str]:
        """Notes on missing or changed measurements, shown while they can still be changed."""
        told = (line for suite in self.suites for line in suite.notices if line)
        return list(dict.fromkeys(told))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes that stand beside the results."""
        return tuple(dict.fromkeys(line for suite in self.suites for line in suite.remarks))


def open_evaluation(arguments: EvaluateArguments, storage: str) -> Evaluation:
    """Check everything that can be checked without a cluster or an accelerator.

    ValueError, CheckpointError, ShardError, MetricError or StorageError say what is wrong.
    """
    check(arguments)
    target = open_target(
        arguments.run,
        arguments.storage or storage,
        ema=arguments.ema,
        data=arguments.data,
        eval_data=arguments.eval_data,
        check=lambda subject: names_of(arguments, subject.config.domain),
    )
    suites = open_suites(arguments, target)
    evaluation = Evaluation(arguments=arguments, target=target, suites=suites)
    evaluation.home.check_writable()
    return evaluation


def open_suites(arguments: EvaluateArguments, target: Target) -> tuple[Suite, ...]:
    """The suites that were asked for, in their order; those that the target cannot have are told.

    ValueError for suites that its domain lacks, when none is left, and as of `Suite.of`.
    """
    domain = target.subject.config.domain
    names = names_of(arguments, domain)
    kinds = {name: suites_for(domain)[name].load() for name in names}
    reasons = {name: why for name, kind in kinds.items() if (why := kind.why_not(target))}
    told = [f"no suite {name}: {why}" for name, why in reasons.items()]
    if len(reasons) == len(kinds):
        raise ValueError(f"nothing can be measured. {'. '.join(told)}")
    for line in told:
        logger.warning("%s", line)
    return tuple(kind.of(arguments, target) for name, kind in kinds.items() if name not in reasons)


def names_of(arguments: EvaluateArguments, domain: DomainConfig) -> tuple[str, ...]:
    """Names of the suites that were asked for; ValueError for what this domain lacks."""
    names = chosen_suites(arguments.suite, domain)
    check_of_domain(arguments, names, domain)
    return names


def compute(evaluation: Evaluation, run: Run) -> Evaluation:
    """Do the workers' part; returns the evaluation whose suites' chunks are all there."""
    suites = tuple(suite.prepared(run) for suite in evaluation.suites)
    run("evaluating", [item for suite in suites for item in work_items(suite)])
    return replace(evaluation, suites=suites)


def conclude(
    evaluation: Evaluation,
    history: History,
    during: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> list[Outcome]:
    """Combine the results of `compute`, and write them.

    results.json and report.md keep earlier results of other suites on this checkpoint. `during`
    makes the context in which a suite's numbers are computed, which may take minutes, of its text.
    """
    outcomes: list[Outcome] = []
    for suite in evaluation.suites:
        with during(f"computing the numbers of {suite.suite}"):
            outcomes += (*suite.found, combine(suite.informed(history)))
    if evaluation.remarks:
        outcomes[0] = replace(outcomes[0], remarks=(*evaluation.remarks, *outcomes[0].remarks))
    write_report(evaluation.home, outcomes)
    return outcomes


def combine(suite: Suite) -> Outcome:
    """The numbers of a suite whose chunks are all there, kept in its folder."""
    outcome = suite.combine(read_chunks(suite))
    outcome.save(suite.folder)
    suite.folder.tidy(CHUNKS)
    return outcome


def write_report(home: Store, outcomes: Sequence[Outcome]) -> None:
    """Write results.json and report.md, with earlier results of other suites on this subject.

    Evaluations of its other suites may end at the same time: one after the other adds its own.
    """
    with hold(home, ".results"):
        everything = merge_outcomes(home, outcomes, (CFG_SEARCH, *all_suites()))
        write_outcomes(home, everything)
        home.write(REPORT_FILE, markdown(everything).encode())


def report_files(home: Store, outcomes: Iterable[Outcome]) -> dict[str, bytes]:
    """Files of outcomes by name, with the reports beside them."""
    files = {f"{each.suite}/{name}": data for each in outcomes for name, data in each.files.items()}
    return files | {name: home.read(name) for name in (RESULTS_FILE, REPORT_FILE)}
