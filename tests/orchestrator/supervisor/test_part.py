"""A part is a process group: it starts with a log, says how it ended, and ends whole."""

from __future__ import annotations

import os
import signal

import psutil

from orchestrator.supervisor.part import DatabasePart

WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_says_how_it_ended(make_part, until):
    part = make_part(program="print('last words'); raise SystemExit(3)")
    part.start()
    until(lambda: part.death() == "exit code 3")
    assert "last words" in part.log.read_text()
    other = make_part(name="control")
    other.start()
    os.kill(other.identity().pid, signal.SIGKILL)
    until(lambda: other.death() == "killed by SIGKILL")


def test_a_killed_part_leaves_no_child_behind(make_part, until):
    part = make_part(program=WITH_CHILD)
    part.start()
    until(lambda: part.log.read_text())
    child = int(part.log.read_text())
    os.kill(part.identity().pid, signal.SIGKILL)
    until(part.death)
    until(lambda: has_ended(child))


def test_stopping_ends_the_whole_group(make_part, until):
    part = make_part(program=WITH_CHILD)
    part.start()
    until(lambda: part.log.read_text())
    part.stop(2)
    until(lambda: has_ended(int(part.log.read_text())))


def test_a_part_that_does_not_listen_is_killed(make_part, until):
    part = make_part(program=DEAF)
    part.start()
    until(lambda: "deaf" in part.log.read_text())
    pid = part.identity().pid
    part.stop(0.2)
    assert has_ended(pid)


def test_the_database_is_a_part_too(data_dir, until):
    part = DatabasePart(data_dir)
    part.start()
    assert part.death() is None
    os.kill(part.identity().pid, signal.SIGKILL)
    until(part.death)
    part.start()
    assert part.death() is None
    part.stop(5)
    assert part.identity() is None
