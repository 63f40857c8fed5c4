"""One `up` a DATA; what a killed one left is ended, strangers and trainings are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from orchestrator.supervisor.ledger import AlreadyUp, Ledger, leftovers_end, url_of_live_up
from orchestrator.supervisor.processes import FAMILY, Identity

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def killed_up(data_dir, ledger, part=None, **identity) -> Ledger:
    """The notes of an `up` that is gone, as the next one finds them."""
    ledger.url = "http://127.0.0.1:8000/"
    if part is not None:
        ledger.parts["web"] = part
    ledger.write()
    ledger._lock.close()
    following = Ledger(data_dir)
    following.claim()
    return following


@pytest.fixture
def process(ledger):
    """Start a process as a member of the family, in a group of its own; ended after the test."""
    started = []

    def start(**env: str) -> subprocess.Popen:
        started.append(subprocess.Popen(SLEEP, env={**os.environ, **env}, start_new_session=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_a_second_up_is_refused_and_told_where_the_first_is(data_dir, ledger):
    ledger.url = "http://127.0.0.1:8000/"
    ledger.write()
    with pytest.raises(AlreadyUp, match=rf"127\.0\.0\.1:8000/ \(process {os.getpid()}\)"):
        Ledger(data_dir).claim()
    assert url_of_live_up(data_dir) == "http://127.0.0.1:8000/"


def test_another_data_has_its_own_up(data_dir, ledger):
    other = Ledger(data_dir / "other")
    other.claim()
    other.close()


def test_notes_are_private_and_gone_after_a_clean_stop(data_dir, ledger):
    ledger.write()
    assert ledger.path.stat().st_mode & 0o077 == 0
    ledger.close()
    assert not ledger.path.exists()
    assert url_of_live_up(data_dir) == ""


def test_a_part_that_a_killed_up_left_is_ended(data_dir, ledger, process):
    part = process(**{FAMILY: ledger.token})
    following = killed_up(data_dir, ledger, Identity.of(part.pid))
    assert leftovers_end(following) == [str(part.pid)]
    assert part.wait(1) == -15
    following.close()


def test_a_reused_pid_is_left_alone(data_dir, ledger, process):
    stranger = process()
    recorded = Identity(stranger.pid, time.time() - 3600)
    following = killed_up(data_dir, ledger, recorded)
    assert leftovers_end(following) == []
    assert stranger.poll() is None
    following.close()


def test_a_live_training_is_left_alone_and_stays_in_the_family(data_dir, ledger, process):
    part, training = process(**{FAMILY: ledger.token}), process(**{FAMILY: ledger.token})
    following = killed_up(data_dir, ledger, Identity.of(part.pid))
    leftovers_end(following)
    assert part.poll() is not None
    assert training.poll() is None
    assert following.token == ledger.token
    following.close()


def test_children_of_a_dead_part_are_ended_too(data_dir, ledger, until):
    program = f"import subprocess, time; p = subprocess.Popen({SLEEP}, stdout=-3); print(p.pid, flush=True)"
    env = {**os.environ, FAMILY: ledger.token}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, start_new_session=True
    )
    recorded = Identity.of(parent.pid)
    child = int(parent.communicate()[0])
    following = killed_up(data_dir, ledger, recorded)
    assert leftovers_end(following) == [str(child)]
    assert Identity(child, 0).process() is None
    following.close()


def test_torn_notes_stop_nobody(data_dir, ledger):
    ledger.path.write_text(json.dumps({"pid": 1})[:5])
    assert ledger.notes() == {}
    assert leftovers_end(ledger) == []
