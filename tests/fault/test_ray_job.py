"""Jobs on a real head that has no unite installed: training as typed, scheduled evaluation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from unite.checkpoints.store import committed
from unite.cluster.jobs import RayJobs
from unite.drivers.schedule import main
from unite.drivers.survey import survey
from unite.scheduling.attempts import PREFIX, read_attempts
from unite.scheduling.rounds import ScheduleArguments
from unite.storage import Store


@pytest.mark.ray
@pytest.mark.fault
def test_the_readme_command_trains_on_a_running_cluster(root, tmp_path, head):
    bare = subprocess.run(["python", "-c", "import unite"], env=head, capture_output=True)
    assert bare.returncode != 0, "unite must not be importable there"
    environment = head | {"UNITE_STORAGE": str(tmp_path / "runs")}
    command = [
        *("python", "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--"),
        *("python", "jobs/train.py", "smoke", "--storage", str(tmp_path / "runs")),
    ]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = next(name for name in os.listdir(tmp_path / "runs") if name.startswith("smoke"))
    assert committed(Store.open(tmp_path / "runs" / run))
    assert "dB PSNR" in done.stdout
    assert sys.executable not in done.stdout


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.slow
def test_two_schedulers_make_one_job_and_a_third_makes_none(tmp_path, untrained_run, head, capsys):
    untrained_run(tmp_path)
    address = head["RAY_API_SERVER_ADDRESS"]
    arguments = ScheduleArguments(
        suite=("entropy",), num_workers=0, once=True, max_attempts=1, address=address
    )
    (request,) = survey(arguments, str(tmp_path)).missing
    codes: list[int] = []

    def schedule() -> None:
        codes.append(main(arguments, str(tmp_path)))

    threads = [threading.Thread(target=schedule) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0], capsys.readouterr().out
    assert request.has_result()
    assert [attempt.status for attempt in read_attempts(request.records)] == ["succeeded"]
    schedule()
    assert codes == [0, 0, 0]
    assert "results: 1 there, 0 missing" in capsys.readouterr().out
    names = [name for name in RayJobs(address).known() if name.startswith(PREFIX)]
    assert names == [f"{PREFIX}{request.digest}-1"]
