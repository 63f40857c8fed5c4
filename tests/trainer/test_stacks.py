"""Stacks of real processes: stopped, hung, without py-spy, and such that a signal would kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer import stacks
from trainer.rundir import RunDir
from trainer.stacks import TEXT_MOST, bounded, stacks_of, takes

HANGS = """
import sys, time
from pathlib import Path
from trainer.rundir import RunDir
from trainer.stacks import stacks_offer
if sys.argv[2] == "offer":
    stacks_offer(RunDir(Path(sys.argv[1])).attempt(1))

def the_place_where_it_hangs():
    print("ready", flush=True)
    time.sleep(600)

the_place_where_it_hangs()
"""


@pytest.fixture
def hanging(tmp_path):
    """Starts a process that hangs; its pid and where it writes its own stacks."""
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir()
    started = []

    def start(word: str = "offer") -> tuple[int, Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", HANGS, str(tmp_path), word], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        return process.pid, attempt.stacks

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_py_spy_names_the_function_of_a_hung_process(hanging):
    pid, own = hanging()
    text, why = stacks_of([pid], own)
    assert "the_place_where_it_hangs (" in text and why == ""


def test_a_stopped_process_is_read_and_stays_stopped(hanging):
    pid, own = hanging()
    os.kill(pid, signal.SIGSTOP)
    text, _ = stacks_of([pid], own)
    assert "the_place_where_it_hangs (" in text
    assert state(pid) == "T"


@pytest.fixture
def no_py_spy(monkeypatch):
    monkeypatch.setattr(stacks, "_py_spy", lambda: None)


def test_without_py_spy_the_process_writes_them_itself_and_lives_on(hanging, no_py_spy):
    pid, own = hanging()
    text, why = stacks_of([pid], own)
    assert "in the_place_where_it_hangs" in text and "Written by process" in text and why == ""
    assert state(pid) == "S"


def test_one_that_would_be_killed_by_the_signal_is_not_sent_it(hanging, no_py_spy):
    pid, own = hanging("keep")
    text, why = stacks_of([pid], own)
    assert (text, why) == ("", "py-spy is not installed; it does not take SIGUSR1")
    assert state(pid) == "S"


def test_a_stopped_one_is_not_waited_for(hanging, no_py_spy):
    pid, own = hanging()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert not takes(pid, signal.SIGUSR1)
    assert stacks_of([pid], own)[0] == ""


def test_a_py_spy_that_hangs_is_given_up(hanging, tmp_path, monkeypatch):
    slow = tmp_path / "py-spy"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(stacks, "_py_spy", lambda: str(slow))
    monkeypatch.setattr(stacks, "SPY_WITHIN", 0.3)
    pid, own = hanging("keep")
    began = time.monotonic()
    assert "did not answer within" in stacks_of([pid], own)[1]
    assert time.monotonic() - began < 5


def test_a_py_spy_that_is_refused_says_why(hanging, tmp_path, monkeypatch):
    refused = tmp_path / "py-spy"
    refused.write_text("#!/bin/sh\necho 'Error: Permission Denied' >&2\nexit 1\n")
    refused.chmod(0o755)
    monkeypatch.setattr(stacks, "_py_spy", lambda: str(refused))
    pid, own = hanging("keep")
    assert "Permission Denied" in stacks_of([pid], own)[1]
    assert "in the_place_where_it_hangs" in stacks_of([hanging()[0]], own)[0]


def test_a_process_that_is_gone_has_no_stacks(tmp_path):
    text, why = stacks_of([2**22 - 7], tmp_path / "none")
    assert text == "" and why


def test_what_is_shown_is_bounded_and_plain():
    begin = "a\\x00\\x1b[31mb\n"
    text = bounded("a\x00\x1b[31mb\n" + "é" * TEXT_MOST)
    assert text.startswith(begin)
    assert len(text.encode()) <= TEXT_MOST and text.endswith(
        f"{TEXT_MOST * 2 + len(begin)} bytes in all"
    )
    assert bounded("short\ttext\n") == "short\ttext\n"
