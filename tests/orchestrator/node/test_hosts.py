"""The hosts of a machine: those that died, the GPUs of those that live, and what is told to them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.node import hosts
from orchestrator.node.hosts import Hosts
from trainer.journal import last_event, read_events
from trainer.processes import processes_read
from trainer.rundir import RunDir, write_atomic


def wait_for(happened, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "YOUNG", 0.0)
    found = RunDir(tmp_path / "runs" / ("r" * 12)).attempt(1)
    found.path.mkdir(parents=True)
    # Nobody listens there: ship keeps trying until it is ended.
    write_atomic(found.lease, json.dumps({"server": "ws://127.0.0.1:9", "token": "t"}), 0o600)
    yield found
    for process in processes_read(found.processes).values():
        process.signal(signal.SIGKILL, group=True)
    for ship in ships_of(found):
        ship.kill()


def ships_of(attempt) -> list[psutil.Process]:
    """The ships of an attempt, noted or not."""
    words = {"trainer.ship", str(attempt.path.parent)}
    return [
        one for one in psutil.process_iter(["cmdline"]) if words <= set(one.info["cmdline"] or [])
    ]


def begin(attempt, *command: str):
    words = [sys.executable, "-m", "trainer.host", "--dir", str(attempt.path.parent)]
    host = subprocess.Popen([*words, "--attempt", "1", "--", *command], start_new_session=True)
    wait_for(lambda: processes_read(attempt.processes).get("ship"))
    return host


def test_a_live_host_is_found_by_pid_and_start_time(attempt, tmp_path):
    host = begin(attempt, "/bin/sleep", "60")
    found = Hosts(tmp_path)
    assert found.live() == [{"run": "r" * 12, "attempt": 1}]
    noted = json.loads(attempt.processes.read_text())
    for process in noted.values():
        process["created"] -= 100  # somebody else's pid by now
    saved = attempt.processes.read_text()
    attempt.processes.write_text(json.dumps(noted))
    assert found.live() == []
    attempt.processes.write_text(saved)
    # Gently, it would wait for ship, whose server is away.
    host.kill()
    host.wait(30)


def test_a_training_whose_host_was_killed_gets_a_new_host(attempt, tmp_path):
    host = begin(attempt, "/bin/sleep", "60")
    trainer = processes_read(attempt.processes)["trainer"]
    host.kill()
    host.wait()
    found = Hosts(tmp_path)
    assert found.live() == [{"run": "r" * 12, "attempt": 1}]  # the trainer is still there
    found.tend("ws://127.0.0.1:9")
    new = wait_for(
        lambda: (p := processes_read(attempt.processes))["host"].pid != host.pid and p["host"]
    )
    assert new.alive() and trainer.alive()
    os.kill(trainer.pid, signal.SIGKILL)
    word = wait_for(lambda: (e := last_event(attempt.journal("host"))) and e.get("cause") and e)
    assert (word["state"], word["cause"]) == ("failed", "killed")


def test_an_attempt_that_a_reboot_ended_gets_its_last_word(attempt, tmp_path):
    attempt.processes.write_text(json.dumps({"host": {"pid": 1, "created": 5.0}}))
    Hosts(tmp_path).tend("ws://127.0.0.1:9")
    wait_for(lambda: (last_event(attempt.journal("trainer")) or {}).get("cause") == "killed")
    # Ship follows, and would outlive the test: the fixture ends what it finds.
    wait_for(lambda: ships_of(attempt))


def test_journals_that_nobody_delivers_get_a_ship_and_delivered_ones_none(
    attempt, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(hosts, "ship_start", started.append)
    from trainer.journal import Journal

    with Journal(attempt.journal("host")) as journal:
        journal.append("status", state="finished", cause="finished", message="")
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    found.tend("ws://127.0.0.1:9")  # once in a while is enough
    assert [one.path for one in started] == [attempt.path]
    (attempt.path / "delivered.json").write_text("{}")
    assert list(found.open_attempts()) == []


def test_a_server_at_a_new_address_is_written_into_the_leases(attempt, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "YOUNG", 60.0)
    Hosts(tmp_path).tend("ws://127.0.0.1:8001")
    lease = json.loads(attempt.lease.read_text())
    assert (lease["server"], lease["token"]) == ("ws://127.0.0.1:8001", "t")
    assert attempt.lease.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_was_set_neither_hurries_nor_holds_up_another_host(
    attempt, tmp_path, monkeypatch, hours
):
    """How long ago a file was written tells nothing then."""
    started = []
    monkeypatch.setattr(hosts, "host_start", lambda one, arguments: started.append(one.path))
    moment = time.time() + 3600 * hours
    os.utime(attempt.lease, (moment, moment))
    monkeypatch.setattr(hosts, "YOUNG", 60.0)
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    assert started == []
    monkeypatch.setattr(hosts, "YOUNG", 0.0)
    found.tend("ws://127.0.0.1:9")
    assert started == [attempt.path]


def test_gpus_of_live_attempts_are_taken(attempt, tmp_path):
    write_atomic(
        attempt.lease, json.dumps({"server": "ws://127.0.0.1:9", "token": "t", "gpus": [0, 2]})
    )
    found = Hosts(tmp_path)
    assert found.gpus_taken() == set()
    host = begin(attempt, "/bin/sleep", "60")
    assert found.gpus_taken() == {0, 2}
    # Gently, it would wait for ship, whose server is away.
    host.kill()
    host.wait(30)


def test_a_fenced_attempt_is_told_to_stop(attempt, tmp_path):
    Hosts(tmp_path).fence("r" * 12, 1)
    assert json.loads(attempt.control.read_text())["cause"] == "fenced"
    Hosts(tmp_path).fence("unknown", 1)


def test_a_run_whose_processes_live_is_told_to_end_before_its_files_go(attempt, tmp_path):
    host = begin(attempt, "/bin/sleep", "60")
    found = Hosts(tmp_path)
    assert found.remove("r" * 12, []) is None
    assert json.loads(attempt.control.read_text())["cause"] == "fenced"
    assert attempt.path.exists()
    for process in processes_read(attempt.processes).values():
        process.signal(signal.SIGKILL, group=True)
    host.wait(30)
    wait_for(lambda: found.live() == [])
    assert found.remove("r" * 12, ["c" * 12]) > 0
    assert not attempt.path.parent.exists()
    assert found.remove("r" * 12, []) == 0


def test_one_checkpoint_goes_once_no_process_of_its_run_lives(attempt, tmp_path):
    run = RunDir(attempt.path.parent)
    folder = run.checkpoint(40)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100_000))
    sha256 = hashlib.sha256(b"{}").hexdigest()
    found, where = Hosts(tmp_path), ("r" * 12, "checkpoints/step-40")
    host = begin(attempt, "/bin/sleep", "60")
    assert found.drop(*where, sha256) is None and folder.is_dir()
    for process in processes_read(attempt.processes).values():
        process.signal(signal.SIGKILL, group=True)
    host.wait(30)
    wait_for(lambda: found.live() == [])
    assert found.drop(*where, "0" * 64) == 0, "another checkpoint of the same step"
    assert found.drop("r" * 12, "../../fetched", sha256) == 0
    assert folder.is_dir()
    assert found.drop(*where, sha256) >= 100_000
    assert not folder.exists() and found.drop(*where, sha256) == 0


@pytest.fixture
def impatient(attempt, monkeypatch):
    """Who stands still for a few seconds hangs."""
    monkeypatch.setenv("ANNEAL_PROMISE", "4")
    monkeypatch.setattr(hosts, "AGAIN_AFTER", 0.0)
    return attempt


def unhung(found: Hosts, happened, seconds: float = 40):
    """Look every half second, as the node does about every second, until something is so."""
    deadline = time.monotonic() + seconds
    while not (true := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        found.unhang()
        time.sleep(0.5)
    return true


def test_a_host_that_stands_still_is_replaced_by_one_that_adopts(impatient, tmp_path):
    host = begin(impatient, "/bin/sleep", "600")
    noted = processes_read(impatient.processes)
    wait_for(lambda: impatient.alive("host").exists())
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    os.kill(host.pid, signal.SIGSTOP)
    unhung(found, lambda: host.poll() is not None)
    assert noted["trainer"].alive() and noted["ship"].alive()
    found.tend("ws://127.0.0.1:9")

    def told() -> dict:
        events = read_events(impatient.journal("host"))
        return next((event for event in events if event.get("code") == "host-hung"), {})

    assert "stood still for" in wait_for(told)["message"]
    new = wait_for(
        lambda: (p := processes_read(impatient.processes))["host"].pid != host.pid and p["host"]
    )
    assert new.alive() and noted["trainer"].alive()


def test_a_host_that_works_is_left_alone(impatient, tmp_path):
    host = begin(impatient, "/bin/sleep", "600")
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    until = time.monotonic() + 8
    unhung(found, lambda: time.monotonic() > until)
    assert host.poll() is None
    host.kill()
    host.wait()


def test_a_ship_that_stands_still_after_its_host_has_gone_is_replaced(impatient, tmp_path):
    from trainer.children import ship_start
    from trainer.journal import Journal
    from trainer.processes import ProcessName, processes_write

    with Journal(impatient.journal("host")) as journal:
        journal.append("status", state="finished", cause="finished", message="")
    ship = ship_start(impatient)
    processes_write(impatient.processes, {"ship": ProcessName.of(ship.pid)})
    wait_for(lambda: impatient.alive("ship").exists())
    os.kill(ship.pid, signal.SIGSTOP)
    found = Hosts(tmp_path)
    found.tend("ws://127.0.0.1:9")
    assert [one.pid for one in ships_of(impatient)] == [ship.pid]
    unhung(found, lambda: ship.poll() is not None)
    found.tend("ws://127.0.0.1:9")
    wait_for(lambda: ships_of(impatient))
