"""The command of ablations/: parse, print the verdict of a finished sweep, or run it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from unite.ablation.finished import keep, record_of
from unite.ablation.options import SweepOptions
from unite.config.axes import Axis, find_axis
from unite.config.flags import parse
from unite.entry import STOPPED


def main(name: str, description: str | None, args: Sequence[str] | None = None) -> int:
    """Run the sweep of an axis: 0 when done, 130 when stopped.

    1 when some trials have no result, or MLflow did not take what it was to have.
    """
    words = sys.argv[1:] if args is None else args
    axis = find_axis(name)
    text = _help(axis, description) if {"-h", "--help"} & set(words) else description
    options = parse(SweepOptions, description=text, args=words)
    if not options.dry_run and (told := record_of(axis, options).lines()):
        print("\n".join([*told, "--seeds N trains more seeds, --dry-run shows the trials"]))
        return 0
    return _run(axis, options)


def _run(axis: Axis, options: SweepOptions) -> int:
    # Imported here so that finished sweeps and typing errors answer at once.
    from unite.ablation.trials import expand
    from unite.drivers.sweep import run_sweep, show_plan

    sweep = expand(axis, options)
    if options.dry_run:
        show_plan(sweep)
        return 0
    ended = run_sweep(sweep)
    told = [*ended.lines, "", f"{ended.out}: {', '.join(ended.files)}"]
    print("\n".join(told))
    if ended.whole:
        files = [ended.out / name for name in ended.files]
        keep(record_of(axis, options), told, files, (each.run for each in ended.measured))
    if ended.stopped:
        print("stopped; the same command goes on from here")
        return STOPPED
    return 0 if ended.whole else 1


def _help(axis: Axis, description: str | None) -> str:
    """The script's own text, and the paper's findings on its axis."""
    from unite.ablation.verdict import findings

    found = findings(axis)
    heads = ["The paper finds (lower is better, the better point first):"] if found else []
    return "\n".join([description or "", *heads, *(f"    {line}" for line in found)])
