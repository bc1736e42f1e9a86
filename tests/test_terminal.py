"""Only the package speaks on the terminal; everyone else writes into the log file."""

import io
import logging
import os
import subprocess
import sys

from unite import logs, terminal
from unite.tables import print_table

DIVERTED = """
import logging, os, subprocess, sys, warnings
from unite import terminal
terminal.show_warnings()
terminal.divert()
os.write(2, b"from C++\\n")
print("from a library", file=sys.stderr)
subprocess.run([sys.executable, "-c", "import sys; print('from a child', file=sys.stderr)"])
logging.getLogger("ray.train").warning("from Ray's logger")
logging.getLogger("unite.training").warning("the latent collapses")
seen = {}
for told in range(2):
    warnings.warn_explicit("weights are cast", UserWarning, terminal.__file__, 1, registry=seen)
warnings.warn("from a script")
terminal.phase("1 worker ready")
print("a result")
"""


def test_after_divert_only_the_package_reaches_the_terminal(tmp_path):
    environment = {**os.environ, logs.FOLDER_VARIABLE: str(tmp_path / "logs")}
    done = subprocess.run(
        [sys.executable, "-c", DIVERTED], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "a result\n"
    *told, phase = done.stderr.splitlines()
    assert told == ["warning: the latent collapses", "warning: weights are cast"]
    assert phase.startswith("[0:0") and phase.endswith("] 1 worker ready")
    (log,) = (tmp_path / "logs").iterdir()
    said = log.read_text()
    assert all(f"from {who}" in said for who in ("C++", "a library", "a child", "a script"))
    assert "from Ray's logger" in said
    assert "collapses" not in said


def test_a_captured_error_stream_stays_as_it_is(capsys):
    terminal.divert()
    terminal.tell("heard")
    assert capsys.readouterr().err == "heard\n"


def test_messages_are_printed_as_they_are(capsys):
    terminal.tell("[bold]s3://bucket/a:b:c[/bold] " + "x" * 200)
    assert capsys.readouterr().err == "[bold]s3://bucket/a:b:c[/bold] " + "x" * 200 + "\n"


def test_a_worker_marks_every_line_of_its_warnings(capsys):
    logger, before = logging.getLogger("unite"), list(logging.getLogger("unite").handlers)
    logs.show_worker_warnings("sigma = 0.7: ")
    try:
        logging.getLogger("unite.training").warning("two\nlines")
        logging.getLogger("ray.train").warning("not ours")
    finally:
        logger.handlers[:] = before
    marked = [line for line in capsys.readouterr().err.splitlines() if logs.MARK in line]
    begin = f"{logs.MARK}sigma = 0.7: "
    assert marked == [f"{begin}warning: two", f"{begin}lines"]


def test_marked_lines_of_workers_are_told_once_and_all_are_logged(log, capsys):
    from unite.cluster.output import Listener

    listener = Listener()
    lines = ["\x1b[36mRay's chatter\x1b[0m", f"{logs.MARK}warning: rows were replaced"]
    for pid in (1, 2):
        listener.hear({"pid": pid, "actor_name": "RayTrainWorker", "lines": lines})
    assert capsys.readouterr().err == "warning: rows were replaced\n"
    (file,) = log.iterdir()
    said = file.read_text()
    assert said.count("Ray's chatter") == 2 and "\x1b" not in said
    assert said.startswith("(RayTrainWorker pid=1) Ray's chatter\n")


def test_of_the_autoscaler_only_events_are_logged(log):
    from unite.cluster.output import Listener

    lines = ["Total Usage: 0.0/2.0 CPU", ":event_summary:Adding 1 node(s) of type gpu."]
    Listener().hear({"pid": "autoscaler", "lines": lines})
    (file,) = log.iterdir()
    assert file.read_text() == "(pid=autoscaler) :event_summary:Adding 1 node(s) of type gpu.\n"


def test_ray_still_prints_workers_lines_where_we_take_over():
    """A new Ray that renamed its printer would print beside us."""
    import inspect

    from ray._private import worker

    from unite.cluster.output import HANDLER

    assert f'add_handler(\n                "{HANDLER}"' in inspect.getsource(worker.connect)


def test_errors_of_the_raylet_are_logged_and_not_printed(log, capsys, monkeypatch):
    import inspect

    from ray._private import ray_logging, worker

    from unite.cluster.output import listen

    dispatcher = ray_logging.WorkerStandardStreamDispatcher()
    dispatcher.add_handler("ray_print_logs", lambda batch: None)
    monkeypatch.setattr(ray_logging, "global_worker_stdstream_dispatcher", dispatcher)
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    listen()
    error = {"lines": ["A worker died or was killed"], "pid": "raylet", "is_err": False}
    worker.print_to_stdstream(error, ignore_prefix=False)
    assert capsys.readouterr() == ("", "")
    (file,) = log.iterdir()
    assert file.read_text() == "(pid=raylet) A worker died or was killed\n"
    said = inspect.getsource(worker.listen_error_messages)
    assert "print_to_stdstream(" in said, "Ray calls the function that is replaced"


def test_a_folder_that_cannot_be_used_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(logs.FOLDER_VARIABLE, str(tmp_path / "file"))
    logs.log_file.cache_clear()
    try:
        assert logs.log_file().parent.is_dir()
    finally:
        logs.log_file().parent.rmdir()
        logs.log_file.cache_clear()


def test_progress_shows_nothing_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with terminal.progress() as bar:
        bar.add_task("work")
    assert sys.stderr.getvalue() == ""


def test_a_copy_of_what_is_printed_has_its_words_without_bold_letters(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal.copied() as lines:
        print_table(("name", "value"), [("one", 1), ("two", 2)])
        print("the end")
    shown = capsys.readouterr().out
    assert "\x1b[1m" in shown and "\x1b" not in "".join(lines)
    assert lines == ["name  value", "one       1", "two       2", "the end"]
