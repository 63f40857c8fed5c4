"""Host: whatever happens to a trainer, its last word is in both journals and nobody is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer import escalation, host
from trainer.control import Control
from trainer.escalation import Escalation
from trainer.journal import Journal, read_events
from trainer.processes import processes_read
from trainer.rundir import RunDir
from trainer.verdict import verdict_of_exit

PYTHON = sys.executable
SAYS_FINISHED = """
import sys; from pathlib import Path; from trainer.journal import Journal
j = Journal(Path(sys.argv[1]) / "journal.jsonl")
j.append("status", state="finished", cause="finished", message="all done")
"""
STUBBORN = """
import signal, time, sys, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""
OBEYS_TERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def attempt(tmp_path):
    return RunDir(tmp_path / "run").attempt(1)


def begin(attempt, *command: str, adopt: bool = False) -> subprocess.Popen[bytes]:
    folder = str(attempt.path.parent)
    words = [PYTHON, "-m", "trainer.host", "--dir", folder, "--attempt", "1"]
    return subprocess.Popen([*words, *(["--adopt"] if adopt else ["--", *command])])


def hosted(attempt, *command: str, within: float = 20) -> int:
    return begin(attempt, *command).wait(within)


def last(attempt, source: str) -> dict:
    return list(read_events(attempt.journal(source)))[-1]


def printed(attempt) -> list[str]:
    events = read_events(attempt.journal("host"))
    return [line for event in events if event["type"] == "log" for line in event["lines"]]


def wait_for(happened, seconds: float = 15):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_trainer_that_says_its_own_last_word_is_taken_by_it(attempt):
    hosted(attempt, PYTHON, "-c", SAYS_FINISHED, str(attempt.path))
    assert [e["state"] for e in read_events(attempt.journal("trainer"))] == ["finished"]
    word = last(attempt, "host")
    assert (word["state"], word["cause"], word["exit_code"]) == ("finished", "finished", 0)


@pytest.mark.parametrize(
    ("code", "state", "cause"),
    [
        (1, "failed", "crash"),
        (2, "failed", "bad-input"),
        (3, "stopped", "user"),
        (0, "failed", "crash"),
    ],
)
def test_an_exit_code_without_a_last_word_becomes_one(attempt, code, state, cause):
    hosted(attempt, "/bin/sh", "-c", f"echo the end is near; exit {code}")
    for source in ("trainer", "host"):
        word = last(attempt, source)
        assert (word["type"], word["state"], word["cause"]) == ("status", state, cause)
    assert last(attempt, "trainer")["data"]["log"] == ["the end is near"]


def test_a_torn_journal_line_is_cut_before_host_speaks_for_the_trainer(attempt):
    script = f'printf \'{{"seq":1,"type":"met\' > {attempt.path}/journal.jsonl; kill -9 $$'
    hosted(attempt, "/bin/sh", "-c", script)
    events = list(read_events(attempt.journal("trainer")))
    assert [(e["seq"], e["state"], e["cause"]) for e in events] == [(1, "failed", "killed")]


def test_a_trainer_that_cannot_be_started_fails_with_a_sentence(attempt):
    hosted(attempt, "/nowhere/python")
    assert last(attempt, "host")["state"] == "failed"
    assert "/nowhere/python cannot be started" in last(attempt, "host")["message"]


def test_what_is_printed_arrives_as_text(attempt):
    script = r"printf 'a\000b\033[1m\nprogress 1\rprogress 2\r\n\377\n'; printf '%5000s\nno end' x"
    hosted(attempt, "/bin/sh", "-c", script)
    lines = printed(attempt)
    assert lines[:4] == ["a\\x00b\\x1b[1m", "progress 1", "progress 2", "\\xff"]
    assert lines[4].endswith("(5000 bytes)") and len(lines[4]) < 4200
    assert lines[5] == "no end"


def test_a_signal_from_nobody_here_is_killed_and_a_crash_is_a_crash(attempt):
    hosted(attempt, "/bin/sh", "-c", "kill -9 $$")
    assert last(attempt, "host")["cause"] == "killed"
    assert verdict_of_exit(-11, [], oom_killed=False).cause == "crash"
    assert verdict_of_exit(-9, [], oom_killed=True).cause == "oom"
    assert verdict_of_exit(1, ["torch.OutOfMemoryError: no"], oom_killed=False).cause == "oom"
    own = ["failed: the disk is full; free space, then resume", "and something behind it"]
    assert verdict_of_exit(1, own, oom_killed=False).cause == "disk"
    # Others may speak of disks without having met a full one.
    talk = ["reward: the disk is full of answers", "KeyError: 'x'"]
    assert verdict_of_exit(1, talk, oom_killed=False).cause == "crash"
    assert (
        verdict_of_exit(1, ["OSError: No space left on device"], oom_killed=False).cause == "disk"
    )


def test_term_to_host_stops_the_trainer_gently(attempt):
    process = begin(attempt, PYTHON, "-c", OBEYS_TERM)
    wait_for(lambda: attempt.log.exists() and "ready" in attempt.log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 3
    assert last(attempt, "host")["state"] == "stopped"


def test_a_stubborn_trainer_is_killed_with_its_children(attempt, monkeypatch):
    for name in ("GRACE", "TERM_GRACE"):
        monkeypatch.setattr(escalation, name, 0.3)
    # In this process, for the shorter deadlines.
    attempt.path.mkdir(parents=True)
    Control("stop", "user", "stopped by ada").write(attempt.control)
    host.Host(RunDir(attempt.path.parent), attempt).run([PYTHON, "-c", STUBBORN])
    word = last(attempt, "trainer")
    assert (word["state"], word["cause"]) == ("stopped", "user")
    assert "stopped by ada" in word["message"] and "force" in word["message"]
    alerts = [e["message"] for e in read_events(attempt.journal("host")) if e["type"] == "alert"]
    assert ["SIGTERM" in alerts[0], "SIGKILL" in alerts[1]] == [True, True]
    child = int(printed(attempt)[0].split()[1])
    wait_for(lambda: gone(child))


def test_stop_escalates_by_deadline_and_waits_for_a_long_step():
    order = Control("stop")
    patient = Escalation()
    patient.ask(order, 0.0)
    assert patient.due(29.0, promise=0) is None
    assert patient.due(100.0, promise=120) is None
    assert patient.due(121.0, promise=120) == signal.SIGTERM
    assert patient.due(130.0, promise=120) is None
    assert patient.due(131.5, promise=120) == signal.SIGKILL
    assert patient.due(999.0, promise=120) is None


def test_an_order_that_is_taken_back_escalates_nothing():
    calm = Escalation()
    calm.ask(Control("pause"), 0.0)
    calm.ask(Control("run"), 20.0)
    assert calm.due(1000.0, promise=0) is None


def test_a_training_outlives_its_host_and_the_next_host_adopts_it(attempt):
    script = "echo one; sleep 1.5; echo two; exit 3"
    first = begin(attempt, "/bin/sh", "-c", script)
    trainer = wait_for(lambda: processes_read(attempt.processes).get("trainer"))
    wait_for(lambda: attempt.journal("host").exists() and printed(attempt) == ["one"])
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert trainer.alive()
    begin(attempt, adopt=True).wait(15)
    assert printed(attempt) == ["one", "two"]
    word = last(attempt, "host")
    assert (word["state"], word["cause"]) == ("failed", "killed")
    assert "unseen" in word["message"]
    seqs = [event["seq"] for event in read_events(attempt.journal("host"))]
    assert seqs == list(range(1, len(seqs) + 1))


def test_an_adopted_trainer_that_was_not_noted_is_found_by_its_environment(attempt):
    attempt.path.mkdir(parents=True)
    trainer = subprocess.Popen(
        [PYTHON, "-c", "import time; time.sleep(600)"],
        env={**os.environ, "ANNEAL_ATTEMPT_DIR": str(attempt.path.resolve())},
        start_new_session=True,
    )
    process = begin(attempt, adopt=True)
    found = wait_for(lambda: processes_read(attempt.processes).get("trainer"))
    assert found.pid == trainer.pid
    trainer.kill()
    trainer.wait()
    process.wait(15)
    assert last(attempt, "trainer")["cause"] == "killed"


def test_an_adopted_trainers_children_end_with_it(attempt):
    script = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '600']); "
        "print(child.pid, flush=True); time.sleep(600)"
    )
    first = begin(attempt, PYTHON, "-c", script)
    trainer = wait_for(lambda: processes_read(attempt.processes).get("trainer"))
    child = int(wait_for(lambda: attempt.log.exists() and attempt.log.read_text()))
    first.kill()
    first.wait()
    second = begin(attempt, adopt=True)
    wait_for(lambda: processes_read(attempt.processes)["host"].pid == second.pid)
    os.kill(trainer.pid, signal.SIGKILL)
    second.wait(15)
    wait_for(lambda: gone(child))


def test_two_hosts_never_share_an_attempt(attempt):
    # Longer than another host needs to start on a busy machine.
    first = begin(attempt, "/bin/sleep", "12")
    wait_for(lambda: processes_read(attempt.processes).get("trainer"))
    assert begin(attempt, adopt=True).wait(10) == host.EXIT_ANOTHER
    first.wait(25)


def test_the_trainer_gets_the_threads_of_its_spec(attempt):
    attempt.path.parent.mkdir(parents=True)
    RunDir(attempt.path.parent).spec_path.write_text(
        json.dumps({"sha256": "x", "spec": {"resources": {"cpus": 3}}})
    )
    hosted(attempt, "/bin/sh", "-c", "echo $OMP_NUM_THREADS $OMP_WAIT_POLICY")
    assert printed(attempt) == ["3 PASSIVE"]
    reported = [e["data"] for e in read_events(attempt.journal("host")) if "data" in e]
    assert reported == [{"sha256": "x", "spec": {"resources": {"cpus": 3}}}]


def test_host_and_ship_load_neither_torch_nor_django():
    code = (
        "import sys, trainer.host, trainer.ship; "
        "print([n for n in ('torch', 'django', 'transformers') if n in sys.modules])"
    )
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_full_disk_does_not_end_host(attempt, monkeypatch):
    lonely = host.Host(RunDir(attempt.path.parent), attempt)

    def full(self, type, **fields):
        raise OSError(28, "No space left on device")

    attempt.log.write_text("hello\n")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        lonely._log_send()
    lonely._log_send()
    assert printed(attempt) == ["hello"]


def test_room_is_kept_for_the_last_words_and_given_back_at_the_end(attempt):
    room = attempt.path / "reserve"
    running = begin(attempt, PYTHON, "-c", "import time; time.sleep(2)")
    wait_for(room.exists)
    assert room.stat().st_blocks * 512 >= 256 << 10
    running.wait(30)
    assert not room.exists()


def test_without_a_word_on_a_full_disk_the_disk_is_the_cause():
    found = verdict_of_exit(1, [], oom_killed=False, disk_full=True)
    assert (found.state, found.cause) == ("failed", "disk")
    assert verdict_of_exit(1, [], oom_killed=False).cause == "crash"
    assert verdict_of_exit(-9, [], oom_killed=False, disk_full=True).cause == "killed"


def test_a_host_that_cannot_note_itself_stays_and_does_so_later(attempt, monkeypatch):
    lonely = host.Host(RunDir(attempt.path.parent), attempt)

    def full(path, noted):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(host, "processes_write", full)
        lonely._processes_note()
    assert not lonely.noted and not attempt.processes.exists()
    lonely.ship.given_up = True
    lonely._look(1e9)
    assert lonely.noted and "host" in processes_read(attempt.processes)


def test_the_step_is_that_of_the_newest_line_not_of_the_last_promise(tmp_path):
    """Else a stall at step 43 would be drawn where the last heartbeat was, at step 0."""
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir(parents=True)
    words = host.TrainerJournal(attempt)
    with Journal(attempt.journal("trainer")) as journal:
        journal.append("heartbeat", phase="train", step=0, expect_next_in=5.0)
        for step in (1, 2, 43):
            journal.append("metrics", step=step, values={"loss": 1.0})
        assert words.look() and words.told.step == 43
        journal.append("heartbeat", phase="train", step=44, expect_next_in=5.0)
        assert words.look() and (words.told.step, words.promise) == (44, 5.0)
