"""What is seen of a silent trainer, and how it is called: real processes, a stand-in for the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from trainer import evidence
from trainer.evidence import Evidence, Gathering, cpu_of, gpu_waits, processes_of

WORKS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
def parent_waits():
    print("ready", flush=True)
    time.sleep(600)
parent_waits()
"""
CARD = {
    "index": 1,
    "uuid": "GPU-1",
    "name": "NVIDIA H100",
    "memory": 80 * 2**30,
    "used": 70 * 2**30,
    "utilisation": 100,
    "power": 100.0,
    "power_limit": 700.0,
    "temperature": 40,
}


@pytest.fixture
def group():
    process = subprocess.Popen(
        [sys.executable, "-c", WORKS], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_whole_group_is_seen_with_what_it_used_since(group):
    before = cpu_of(group)
    time.sleep(1.0)
    leader, child = processes_of(group, before, 1.0)
    assert (leader["pid"], leader["state"], leader["python"]) == (group, "S", True)
    # On a machine that others use too the busy one gets a share only.
    assert leader["cpu_s"] == 0.0 < child["cpu_s"] <= 1.5
    assert child["state"] == "R" and leader["rss_mb"] > 1


def test_a_stopped_one_is_called_so(group):
    os.kill(group, signal.SIGSTOP)
    time.sleep(0.1)
    (leader, _) = processes_of(group, cpu_of(group), 1.0)
    assert leader["state"] == "T"
    found = Evidence(processes=[leader], stacks="there")
    assert "is stopped by a signal and used 0 s of CPU in the last 1 s." in found.words()


def test_it_is_gathered_beside_everything_else(group, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "gpu_report", lambda: {"gpus": [CARD, {**CARD, "index": 0}]})
    gathering = Gathering(group, tmp_path / "none", cpu_of(group), time.monotonic(), [1])
    while not gathering.ready(time.monotonic()):
        time.sleep(0.05)
    found = gathering.evidence
    assert found.complete and "parent_waits (" in found.stacks
    # Its child's stacks too.
    assert found.stacks.count("Process ") == 2
    assert [gpu["index"] for gpu in found.gpus] == [1]


def test_a_driver_that_hangs_keeps_nobody_waiting(group, tmp_path, monkeypatch):
    let_go = threading.Event()

    def hangs():
        let_go.wait(60)
        return {"gpus": []}

    monkeypatch.setattr(evidence, "gpu_report", hangs)
    gathering = Gathering(group, tmp_path / "none", {}, time.monotonic())
    deadline = time.monotonic() + 20
    while not gathering.evidence.stacks and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not gathering.ready(gathering.began + 44)
    assert gathering.ready(gathering.began + 46)
    assert "parent_waits (" in gathering.evidence.stacks and not gathering.evidence.complete
    let_go.set()


def test_without_a_proc_nothing_is_seen_and_nothing_breaks(group, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "PROC", tmp_path / "none")
    assert (cpu_of(group), processes_of(group, {}, 1.0)) == ({}, [])


@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        ({}, True),
        ({"power": 400.0}, False),
        ({"utilisation": 40}, False),
        ({"power": 244.0}, True),
        ({"power": 245.0}, False),
        ({"power": None}, False),
        ({"power_limit": None}, False),
        ({"power_limit": 0.0}, False),
        ({"utilisation": None}, False),
    ],
)
def test_busy_at_idle_power_is_waiting(seen, waits):
    assert gpu_waits({**CARD, **seen}) is waits


def test_the_words_say_that_it_waits():
    found = Evidence(gpus=[{**CARD, "waits": True}], stacks="there")
    assert found.words() == (
        "No process of the trainer was found. GPU 1 shows 100 % at 100 W of 700 W: it waits in a collective or "
        "a spinning kernel, which is not work."
    )


def test_a_gpu_that_tells_little_is_told_as_far_as_it_does():
    card = {**CARD, "utilisation": None, "power_limit": None, "waits": False}
    assert "GPU 1 at 100 W." in Evidence(gpus=[card], stacks="there").words()


def test_why_there_are_no_stacks_is_said():
    assert (
        "No stacks: py-spy is not installed."
        in Evidence(stacks_problem="py-spy is not installed").words()
    )
