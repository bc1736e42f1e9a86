"""Evaluate checkpoints that have no result yet, as jobs on a Ray cluster.

    python jobs/schedule_evals.py --dry-run                      what is missing
    python jobs/schedule_evals.py --once --suite generation      one round (cron)
    python jobs/schedule_evals.py --every 6h --order oldest      a round every six hours
    python jobs/schedule_evals.py --once --run RUN --num-samples 10000 --cfg-scale 2

A checkpoint and a suite under one protocol are evaluated once, whoever asked for it; two schedulers
never submit the same. Failed jobs are retried, --max-attempts in all; the reasons are kept beside
the results. The cluster is that of --address or RAY_API_SERVER_ADDRESS. Everything that
jobs/evaluate.py can be asked for can be asked for here. docs/scheduled_evaluation.md has a crontab
line and a Kubernetes CronJob.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.entry import run


def main() -> int:
    """Parse and schedule; 0 when all went through, 1 when not, 2 for bad input, 130 on Ctrl-C."""
    from unite.config.flags import parse
    from unite.scheduling.rounds import ScheduleArguments

    arguments = parse(ScheduleArguments, description=__doc__)
    # Imported here so that help and typing errors answer at once.
    from unite.drivers import schedule
    from unite.runs import default_storage

    return schedule.main(arguments, default_storage())


if __name__ == "__main__":
    sys.exit(
        run(main, stopped="stopped; what was submitted goes on, and the next round looks at it")
    )
