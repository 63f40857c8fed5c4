"""A gang of two machines without a server: each has a run directory of its own, and they share no file.

A few lines of HTTP stand for the server: they tell what the first machine has journalled of where it listens.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from tests.trainer.engine.conftest import _signals
from tests.trainer.engine.support import TINY, UNREPEATABLE, Runs
from trainer.children import ATTEMPT_VARIABLE
from trainer.control import Control
from trainer.deputy import Deputy
from trainer.engine.failure import Halt
from trainer.gang import Gang, gang_read, gang_write
from trainer.journal import Journal, read_events
from trainer.meeting import Meeting
from trainer.processes import processes_with
from trainer.rundir import RunDir, write_atomic
from trainer.spec import spec_parse
from trainer.specfile import with_overrides
from trainer.verdict import Verdict

__all__ = ["_signals"]

ROOT = Path(__file__).parents[2]
NAMES = ("east", "west")
SPEC = with_overrides(
    TINY, ["objective.type=grpo", "objective.beta=0.05", "resources.gpus=0", "resources.nodes=2"]
)
ENDLESS = ["budget.max_steps=100000", "evaluation.every_steps=0", "schedule.type=constant"]


class Machines:
    """Two machines; the first one is whoever `first` names."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        self.runs = {name: RunDir(folder / name / "run") for name in NAMES}
        self.hosts: list[subprocess.Popen[bytes]] = []
        self.attempt, self.first = 0, "east"

    def prepare(self, first: str, *overrides: str) -> None:
        """What nodes do for a new attempt."""
        self.attempt, self.first = self.attempt + 1, first
        names = (first, *(name for name in NAMES if name != first))
        for index, name in enumerate(names):
            run = self.runs[name]
            if not run.exists():
                run.create(spec_parse(with_overrides(SPEC, overrides)))
            attempt = run.attempt(self.attempt)
            attempt.path.mkdir()
            gang_write(attempt.gang, Gang(index, names, "127.0.0.1", f"of {self.attempt}"))
            lease = {"server": self.server, "token": name, "gpus": [], "member": index}
            if index:
                # The first one has nobody to ship to here.
                write_atomic(attempt.lease, json.dumps(lease), 0o600)

    def start(self, *overrides: str) -> None:
        for name in NAMES:
            path = str(self.runs[name].path)
            number = ["--attempt", str(self.attempt)]
            command = (
                ["trainer", "resume", path, *number, *overrides]
                if name == self.first
                else ["trainer.deputy", "--dir", path, *number]
            )
            host = [sys.executable, "-m", "trainer.host", "--dir", path, *number, "--"]
            self.hosts.append(
                subprocess.Popen(
                    [*host, sys.executable, "-m", *command],
                    cwd=ROOT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )

    def train(self, first: str, *overrides: str) -> None:
        self.prepare(first, *overrides)
        self.start(*overrides)

    def ended(self, within: float = 60) -> dict[str, dict]:
        """Wait for both hosts; the last word of each."""
        for host in self.hosts:
            host.wait(within)
        self.hosts.clear()
        for name in NAMES:
            assert self.family(name) == [], f"{name} has left processes behind"
        return {name: self.events(name, "host")[-1] for name in NAMES}

    def events(self, name: str, source: str = "trainer") -> list[dict]:
        path = self.runs[name].attempt(self.attempt).journal(source)
        return list(read_events(path)) if path.exists() else []

    def family(self, name: str) -> list[psutil.Process]:
        path = str(self.runs[name].attempt(self.attempt).path.resolve())
        return [
            psutil.Process(one.pid) for one in processes_with(ATTEMPT_VARIABLE, path) if one.alive()
        ]

    def process(self, name: str, module: str) -> psutil.Process:
        return next(one for one in self.family(name) if module in one.cmdline())

    def curve(self, name: str) -> dict:
        """Every repeatable metric, over all attempts that this machine led."""
        found = {}
        for number in self.runs[name].attempts():
            path = self.runs[name].attempt(number).journal("trainer")
            for event in read_events(path) if path.exists() else ():
                for key, value in event.get("values", {}).items():
                    if not key.startswith((*UNREPEATABLE, "batch/pad_frac")):
                        found[event["step"], key] = value
        return found


@pytest.fixture
def machines(tmp_path):
    found: list[Machines] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            events = found[0].events(found[0].first)
            told = next(
                (e["data"]["meeting"] for e in events if "meeting" in e.get("data", {})), None
            )
            answer = {"ready": bool(told), "address": "", "port": 0} | (told or {})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.append(Machines(tmp_path, f"ws://127.0.0.1:{server.server_port}"))
    yield found[0]
    for name in NAMES:
        for process in found[0].family(name):
            process.kill()
    for host in found[0].hosts:
        host.kill()
    server.shutdown()
    server.server_close()


def wait_for(happened, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_a_death_ends_both_machines_and_the_other_one_leads_on_to_the_curve_of_one_process(
    machines, tmp_path
):
    """The death of a trainer and its machine: tests/chaos/test_gang.py; of a deputy: test_meeting.py."""
    east, west = machines.runs["east"], machines.runs["west"]
    machines.train("east", *ENDLESS)
    wait_for(lambda: len(east.checkpoint_steps()) > 1)
    machines.process("west", "trainer.follower").send_signal(signal.SIGKILL)
    began = time.monotonic()
    word = machines.ended(45)["east"]
    assert time.monotonic() - began < 30
    assert (word["state"], word["cause"]) == ("failed", "killed")
    assert "on west) ended first" in word["message"]
    said = [event for event in machines.events("east") if event.get("data", {}).get("processes")]
    assert said[-1]["data"]["processes"] == 2
    stopped = east.checkpoint_steps()[-1]
    assert west.checkpoint_steps() == [], "the first machine alone saves"
    # Of what this one lacks of the checkpoint then, the other one hands it over.
    shutil.copytree(east.checkpoint(stopped), west.checkpoint(stopped))
    weights = (west.checkpoint(stopped) / "model.safetensors").read_bytes()
    for step in east.checkpoint_steps():
        shutil.rmtree(east.checkpoint(step))
    last = stopped + 4
    machines.train("west", f"budget.max_steps={last}")
    words = machines.ended()
    assert [word["state"] for word in words.values()] == ["finished", "finished"], words
    done = [event["step"] for event in machines.events("west") if "loss" in event.get("values", {})]
    assert done == list(range(stopped + 1, last + 1))
    assert east.checkpoint_steps() == [stopped]
    handed = (east.checkpoint(stopped) / "model.safetensors").read_bytes()
    assert handed == weights
    # As one process that was never stopped.
    tiny = Runs(tmp_path)
    tiny.spec_path.write_text(json.dumps(with_overrides(SPEC, ENDLESS)))
    assert tiny.run("alone", "resources.nodes=1", f"budget.max_steps={last}") == 0
    one = tiny.metrics("alone")
    two = machines.curve("east") | machines.curve("west")
    shared = [key for key in two if key in one]
    assert {step for step, _ in shared} >= set(range(1, last + 1)) and len(shared) > 50
    for key in shared:
        assert two[key] == pytest.approx(one[key], rel=2e-3, abs=1e-5, nan_ok=True), key


@pytest.fixture
def deputy(machines, _signals):
    """West's deputy in this process, and the meeting to which it comes."""
    machines.prepare("east")
    run, attempt = machines.runs["west"], machines.runs["west"].attempt(1)
    gang = gang_read(machines.runs["east"].attempt(1).gang)
    meeting = Meeting(gang, 1, 4711, lambda index: None)
    place = {"data": {"meeting": {"address": "127.0.0.1", "port": meeting.port}}}
    with Journal(machines.runs["east"].attempt(1).journal("trainer")) as journal:
        journal.append("status", state="starting", **place)
    yield Deputy(run, attempt, run.spec(), gang_read(attempt.gang)), meeting, attempt
    meeting.end(Verdict("stopped", "user", ""))


def test_a_machine_that_is_to_end_tells_the_others_why(deputy):
    """As when its node hears that the attempt is over, or its server stops."""
    found, meeting, attempt = deputy

    def order() -> None:
        wait_for(lambda: not meeting.missing(), 10)
        Control("stop", "server-stopped", "server stopped").write(attempt.control)

    threading.Thread(target=order, daemon=True).start()
    with pytest.raises(Halt, match="server stopped"):
        found.work({})
    word = wait_for(meeting.lost, 5)
    assert (word.cause, word.message) == ("server-stopped", "west ended first: server stopped")


def test_a_machine_whose_leader_ends_before_all_have_come_ends_with_its_words(deputy):
    found, meeting, _ = deputy

    def end() -> None:
        wait_for(lambda: not meeting.missing(), 10)
        meeting.end(Verdict("paused", "user", "paused by ada"))

    threading.Thread(target=end, daemon=True).start()
    verdict = found.work({})
    assert (verdict.state, verdict.cause) == ("paused", "user")


def test_several_machines_need_a_server(tmp_path, capsys):
    from trainer.__main__ import main

    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    assert main(["run", str(tmp_path / "spec.json"), "--dir", str(tmp_path / "run")]) == 2
    assert "resources.nodes: only a server launches a run on 2 machines" in capsys.readouterr().err
