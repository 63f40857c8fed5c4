"""The supervisor keeps parts up, says why one stays down, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from orchestrator.supervisor.processes import FAMILY, family


def test_a_dead_part_is_back_within_two_seconds(supervisor, make_part, until):
    part = make_part()
    supervisor.start(part)
    first = part.identity()
    os.kill(first.pid, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.look(time.monotonic())
        return part.identity() not in (None, first)

    assert until(is_back) < 2
    assert supervisor.ledger.notes()["parts"]["web"] == list(part.identity())


def test_a_part_that_cannot_live_is_given_up_and_its_last_words_shown(
    supervisor, make_part, capsys, monkeypatch
):
    monkeypatch.setattr("orchestrator.supervisor.restarts.DELAYS", (0.0,) * 4)
    healthy = make_part("control")
    supervisor.start(healthy)
    supervisor.start(make_part("web", "raise SystemExit('the port is on fire')"))
    deadline = time.monotonic() + 20
    while not supervisor.degraded and time.monotonic() < deadline:
        supervisor.look(time.monotonic())
    assert supervisor.degraded == ["web"]
    said = capsys.readouterr().err
    assert said.count("starting it again") == 4
    assert "stays down" in said
    assert "the port is on fire" in said
    assert healthy.death() is None
    assert list(supervisor.ledger.notes()["parts"]) == ["control"]


def test_a_start_that_fails_counts_as_a_death(supervisor, make_part, until, capsys):
    part = make_part()
    supervisor.start(part)
    part.command = ["/no/such/program"]
    os.kill(part.identity().pid, signal.SIGKILL)
    until(lambda: supervisor.look(time.monotonic()) or "No such file" in capsys.readouterr().err)


def test_it_stops_the_parts_in_order(supervisor, make_part, monkeypatch):
    order = []
    for name in ("web", "control", "node"):
        part = make_part(name)
        supervisor.start(part)
        monkeypatch.setattr(
            part,
            "stop",
            lambda within, part=part: order.append(part.name) or type(part).stop(part, 1),
        )
    supervisor.stop()
    assert order == ["node", "control", "web"]
    assert supervisor.ledger.notes()["parts"] == {}


def test_no_process_of_the_family_is_left(supervisor, make_part):
    supervisor.start(make_part())
    training = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, FAMILY: supervisor.ledger.token},
        start_new_session=True,
    )
    supervisor.stop()
    assert list(family(supervisor.ledger.token)) == []
    assert training.wait(1) == -15


def test_watching_ends_when_a_stop_is_asked_for(supervisor, make_part):
    supervisor.start(make_part())
    supervisor.stopping.set()
    watching = threading.Thread(target=supervisor.watch, daemon=True)
    watching.start()
    watching.join(30)
    assert not watching.is_alive()


def test_a_member_that_starts_another_while_it_ends_leaves_none_either(supervisor):
    restless = (
        "import signal, subprocess, sys, time\n"
        "def again(*_):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True)\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, again)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    member = subprocess.Popen(
        [sys.executable, "-c", restless],
        env={**os.environ, FAMILY: supervisor.ledger.token},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    member.stdout.readline()
    supervisor.stop()
    member.wait(1)
    assert list(family(supervisor.ledger.token)) == []
