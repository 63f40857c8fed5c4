"""What host makes of silence: unit by unit with a given clock, and with real processes that stop or hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from trainer import vigil
from trainer.control import Control
from trainer.evidence import Evidence
from trainer.journal import read_events
from trainer.processes import processes_read
from trainer.rundir import RunDir, write_atomic
from trainer.stall import Told
from trainer.vigil import Vigil

SPEAKS = """
import sys, time
from pathlib import Path
from trainer.engine.progress import Report
from trainer.rundir import RunDir
from trainer.stacks import stacks_offer

attempt = RunDir(Path(sys.argv[1])).attempt(1)
stacks_offer(attempt)
report = Report(attempt)
report.status("train")

def one_step():
    report.enter("checkpoint")  # which promises ten times as long
    report.enter("update")
    time.sleep(0.1)
    report.tick()
    if Path(sys.argv[1], "hang").exists():
        waits_for_a_peer_that_never_comes()
    report.enter("other")

def waits_for_a_peer_that_never_comes():
    while not Path(sys.argv[1], "go-on").exists():
        time.sleep(0.05)

while not Path(sys.argv[1], "end").exists():
    one_step()
from trainer.engine.failure import Verdict
report.end(Verdict("finished", "finished", "done"))
"""


class FakeTrainer:
    pid = 1

    def __init__(self, dies: bool = True) -> None:
        self.signals: list[int] = []
        self.dies = dies

    def alive(self) -> bool:
        return not (self.dies and self.signals)

    def signal(self, number: int) -> None:
        self.signals.append(number)


class FakeGathering:
    """Evidence that is there at the second look."""

    def __init__(self, *_: object) -> None:
        self.evidence = Evidence(stacks="File x.py, line 3")
        self.looks = 0

    def ready(self, now: float) -> bool:
        self.looks += 1
        return self.looks > 1


class Watched:
    """A vigil over a stand-in, with the time that passes for it."""

    def __init__(self, attempt, trainer: FakeTrainer) -> None:
        self.notes: list[dict] = []
        self.trainer, self.now = trainer, 100.0
        self.told = Told("rollout", 7, 20.0, "as ever")
        self.vigil = Vigil(attempt, trainer, self.note, self.told)  # type: ignore[arg-type]

    def note(self, type: str, **fields) -> bool:
        self.notes.append({"type": type, **fields})
        return True

    def pass_(self, seconds: float, order: Control = Control(), spoke: bool = False) -> list[str]:  # noqa: B008
        before, end = len(self.notes), self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.vigil.look(self.now, spoke=spoke, order=order)
            spoke = False
        return [note["code"] for note in self.notes[before:]]


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.setattr(vigil, "Gathering", FakeGathering)
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir()
    found = Watched(attempt, FakeTrainer())
    found.pass_(1, spoke=True)
    return found


def test_a_stall_is_told_with_its_phase_history_and_evidence(watched):
    assert watched.pass_(60) == ["stall"]
    alert = watched.notes[-1]
    assert (alert["level"], alert["step"]) == ("warning", 7)
    assert alert["message"].startswith(
        "Stalled in rollout: the trainer has said nothing for 26 s, where 20 s were expected at most (as ever)."
    )
    assert alert["message"].endswith("the policy is to tell.")
    data = alert["data"]
    assert (data["phase"], data["expected_s"], data["stacks"]) == (
        "rollout",
        20,
        "File x.py, line 3",
    )
    assert data["silent_s"] > 25 and data["policy"] == "tell"
    assert watched.trainer.signals == []


def doing(watched: Watched, phase: str, expected: float) -> None:
    """What the trainer's own `doing` says from now on, as pwrite leaves it."""
    path = watched.vigil.attempt.doing
    path.write_text(f"{phase}\n{expected}\nas ever\n".ljust(200))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + round(watched.now * 1e9)))


def test_a_long_promise_of_a_save_that_is_over_hides_no_hang(watched):
    watched.told.phase, watched.told.promise = "checkpoint", 600.0
    doing(watched, "checkpoint", 600.0)
    watched.pass_(1, spoke=True)
    assert watched.pass_(300) == []
    # No line is due before the save's own promise has passed: only the file says that it went on.
    doing(watched, "update", 20.0)
    assert watched.pass_(24) == []
    assert watched.pass_(4) == ["stall"]
    found = watched.notes[-1]["data"]
    assert (found["phase"], found["expected_s"]) == ("update", 20)
    assert 25 < found["silent_s"] < 28


def test_a_change_of_the_part_is_a_sign_of_life(watched):
    for part in ["rollout", "reward"] * 20:
        doing(watched, part, 20.0)
        assert watched.pass_(20) == []
    assert watched.pass_(10) == ["stall"]
    doing(watched, "update", 20.0)
    assert watched.pass_(1) == ["stall-over"]


def test_to_the_host_that_takes_over_what_was_written_before_is_no_sign_of_life(watched):
    watched.pass_(60)
    doing(watched, "update", 20.0)
    later = Watched(watched.vigil.attempt, watched.trainer)
    later.vigil.take_over([{"type": "alert", "code": "stall", "data": {"phase": "update"}}])
    assert later.pass_(100) == []


def test_its_end_is_told_too(watched):
    watched.pass_(60)
    assert watched.pass_(1, spoke=True) == ["stall-over"]
    assert watched.notes[-1]["level"] == "info"
    assert watched.vigil.verdict() is None


def test_a_trainer_that_speaks_while_evidence_is_gathered_was_in_no_stall(watched):
    watched.pass_(25)
    assert watched.pass_(10, spoke=True) == []


@pytest.mark.parametrize("policy", ["restart", "stop"])
def test_the_policy_ends_it_after_the_stacks_were_taken(watched, policy):
    assert watched.pass_(60, Control(on_stall=policy)) == ["stall", "stall-ended"]
    assert watched.trainer.signals == [signal.SIGKILL]
    found = watched.vigil.verdict()
    assert (found.state, found.cause) == ("failed", "stall")
    assert found.message.startswith("Stalled in rollout: it said nothing for 26 s")


def test_a_policy_that_is_changed_meanwhile_counts(watched):
    watched.pass_(60)
    assert watched.pass_(1, Control(on_stall="restart")) == ["stall-ended"]


@pytest.mark.parametrize("want", ["stop", "pause"])
def test_what_was_asked_for_has_its_own_deadlines(watched, want):
    assert watched.pass_(60, Control(want, on_stall="restart")) == ["stall"]
    assert watched.notes[-1]["message"].endswith("It is ended anyway, as it was asked to.")
    assert watched.trainer.signals == []


def test_one_that_kill_does_not_end_is_told_of_once_and_looked_after(watched):
    watched.trainer.dies = False
    order = Control(on_stall="restart")
    assert watched.pass_(100, order) == ["stall", "stall-ended", "unkillable"]
    assert "state D" in watched.notes[-1]["message"]
    assert watched.trainer.signals == [signal.SIGKILL]
    assert watched.pass_(1, order, spoke=True) == ["stall-over"]


def test_an_unknown_policy_is_told_and_not_acted_on(watched):
    assert watched.pass_(60, Control(on_stall="explode")) == ["stall"]


def test_a_host_that_takes_over_tells_a_standing_stall_no_second_time(watched):
    watched.vigil.take_over([{"type": "alert", "code": "stall", "data": {"phase": "update"}}])
    assert watched.pass_(100) == []
    assert watched.pass_(1, Control(on_stall="stop")) == ["stall-ended"]
    assert "Stalled in update" in watched.vigil.verdict().message


def test_a_host_that_takes_over_tells_the_end_of_a_stall(watched):
    watched.vigil.take_over([{"type": "alert", "code": "stall", "data": {"phase": "update"}}])
    assert watched.pass_(1, spoke=True) == ["stall-over"]


# --- real processes -------------------------------------------------------------------------------------


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setenv("ANNEAL_PROMISE", "4")
    found = RunDir(tmp_path).attempt(1)
    yield found
    for process in processes_read(found.processes).values():
        process.signal(signal.SIGKILL, group=True)


def begin(attempt, *, adopt: bool = False, hung: str = "0") -> subprocess.Popen[bytes]:
    folder = str(attempt.path.parent)
    words = [sys.executable, "-m", "trainer.host", "--dir", folder, "--attempt", "1"]
    rest = ["--adopt", "--hung", hung] if adopt else ["--", sys.executable, "-c", SPEAKS, folder]
    return subprocess.Popen([*words, *rest])


def alerts(attempt) -> list[dict]:
    path = attempt.journal("host")
    events = read_events(path) if path.exists() else ()
    return [event for event in events if event["type"] == "alert"]


def wait_alert(attempt, code: str, within: float = 40) -> dict:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := [one for one in alerts(attempt) if one["code"] == code]:
            return found[-1]
        time.sleep(0.05)
    raise AssertionError(f"no alert {code}: {alerts(attempt)}")


def speaking(attempt) -> None:
    deadline = time.monotonic() + 30
    while not attempt.journal("trainer").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)


def test_a_stopped_trainer_is_noticed_read_and_heard_again(attempt):
    host = begin(attempt)
    speaking(attempt)
    pid = processes_read(attempt.processes)["trainer"].pid
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    found = wait_alert(attempt, "stall")
    noticed = time.monotonic() - stopped
    data = found["data"]
    assert "one_step (" in data["stacks"], found
    assert data["phase"] == "update"
    assert data["processes"][0]["pid"] == pid and data["processes"][0]["state"] == "T"
    assert data["silent_s"] <= noticed + 1
    # The promise, the grace, and some seconds for the dump on a busy machine.
    assert data["expected_s"] <= noticed < data["expected_s"] + 1 + 8
    os.kill(pid, signal.SIGCONT)
    wait_alert(attempt, "stall-over")
    (attempt.path.parent / "end").touch()
    assert host.wait(30) == 0
    assert [one["code"] for one in alerts(attempt)] == ["stall", "stall-over"]


def test_a_hang_in_python_is_named_and_the_policy_ends_it(attempt):
    attempt.path.mkdir()
    Control(on_stall="restart").write(attempt.control)
    host = begin(attempt)
    speaking(attempt)
    (attempt.path.parent / "hang").touch()
    host.wait(60)
    stall, ended = alerts(attempt)
    assert "waits_for_a_peer_that_never_comes (" in stall["data"]["stacks"]
    assert (stall["code"], ended["code"]) == ("stall", "stall-ended")
    for source in ("trainer", "host"):
        word = list(read_events(attempt.journal(source)))[-1]
        assert (word["state"], word["cause"]) == ("failed", "stall")
        assert word["message"].startswith("Stalled in update: it said nothing for ")


def test_a_host_that_replaces_a_hung_one_says_so_and_the_training_went_on(attempt):
    first = begin(attempt)
    speaking(attempt)
    first.kill()
    first.wait()
    second = begin(attempt, adopt=True, hung="31.4")
    assert "stood still for 31 s" in wait_alert(attempt, "host-hung")["message"]
    (attempt.path.parent / "end").touch()
    second.wait(30)
    assert list(read_events(attempt.journal("trainer")))[-1]["state"] == "finished"


def test_a_ship_that_stands_still_is_replaced(attempt):
    attempt.path.mkdir()
    # Nobody listens there: ship keeps trying until it is ended.
    write_atomic(attempt.lease, json.dumps({"server": "ws://127.0.0.1:9", "token": "t"}), 0o600)
    host = begin(attempt)
    deadline = time.monotonic() + 30
    while not attempt.alive("ship").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first = processes_read(attempt.processes)["ship"]
    os.kill(first.pid, signal.SIGSTOP)
    found = wait_alert(attempt, "ship-hung", within=60)
    assert "another one delivers what is left" in found["message"]
    while (second := processes_read(attempt.processes)["ship"]) == first:
        assert time.monotonic() < deadline + 60
        time.sleep(0.05)
    assert second.alive() and not first.alive()
    # Host first: it would start another ship.
    host.kill()
    host.wait()


LINGERS = """
import sys, time
from pathlib import Path
from trainer.journal import Journal
with Journal(Path(sys.argv[1]) / "journal.jsonl") as journal:
    journal.append("status", state="finished", cause="finished", message="done", expect_next_in=0)

def never_gets_out():
    time.sleep(600)

never_gets_out()
"""


def test_a_trainer_that_does_not_end_after_its_last_word_is_told_of(attempt, monkeypatch):
    monkeypatch.setenv("ANNEAL_PROMISE", "1")
    attempt.path.mkdir()
    Control(on_stall="restart").write(attempt.control)
    words = [sys.executable, "-m", "trainer.host", "--dir", str(attempt.path.parent)]
    trainer = ["--", sys.executable, "-c", LINGERS, str(attempt.path)]
    host = subprocess.Popen([*words, "--attempt", "1", *trainer])
    found = wait_alert(attempt, "stall")
    assert found["data"]["phase"] == "exit" and "never_gets_out (" in found["data"]["stacks"]
    host.wait(30)
    # What it said of its end stands: it had finished.
    assert list(read_events(attempt.journal("trainer")))[-1]["state"] == "finished"
    assert list(read_events(attempt.journal("host")))[-1]["state"] == "finished"
