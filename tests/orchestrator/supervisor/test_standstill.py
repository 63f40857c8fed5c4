"""Parts that stand still are noticed, ended and started again; the slow ones and the innocent are left alone."""

from __future__ import annotations

import http.server
import os
import signal
import threading
import time

import pytest
from django.db import connections

from orchestrator.supervisor import standstill
from orchestrator.supervisor.standstill import (
    AnswerSign,
    TouchSign,
    database_answers,
    hung_after,
)

TOUCHES = """
import sys, time
from pathlib import Path
from trainer.liveness import touch_always
touch_always(Path(sys.argv[1]))
time.sleep(600)
"""


@pytest.fixture
def touching(supervisor, make_part, tmp_path, monkeypatch):
    """A part that touches a file, watched by a supervisor whose database answers."""
    monkeypatch.setattr("trainer.liveness.STARTS_WITHIN", 20.0)
    supervisor.database_answers = lambda: True
    part = make_part("control", TOUCHES)
    part.command.append(str(tmp_path / "alive"))
    part.signs = [TouchSign(tmp_path / "alive", 2.5)]
    supervisor.start(part)
    deadline = time.monotonic() + 30
    while not (tmp_path / "alive").exists() and time.monotonic() < deadline:
        looked(supervisor, 0.1)
    # Seen alive: from here on a silence of 2.5 s is one.
    looked(supervisor, 2)
    return part


def looked(supervisor, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        supervisor.look(time.monotonic())
        time.sleep(0.1)


def test_a_stopped_part_is_ended_and_started_again(supervisor, touching, until, capsys):
    looked(supervisor, 5)
    first = touching.identity()
    assert capsys.readouterr().err == ""
    os.kill(first.pid, signal.SIGSTOP)

    def is_back() -> bool:
        supervisor.look(time.monotonic())
        return touching.identity() not in (None, first)

    # 2.5 s from its last touch, which was up to a second old.
    assert until(is_back, 20) > 1
    said = capsys.readouterr().err
    assert "The control part stands still (it gave no sign of life for" in said
    assert "The control part ended (killed by SIGKILL); starting it again." in said
    looked(supervisor, 4)
    assert "stands still" not in capsys.readouterr().err


def test_while_the_database_is_away_nobody_is_blamed(supervisor, touching, capsys):
    supervisor.database_answers = lambda: False
    first = touching.identity()
    os.kill(first.pid, signal.SIGSTOP)
    looked(supervisor, 8)
    assert touching.identity() == first and capsys.readouterr().err == ""


def test_an_up_that_stood_still_itself_blames_nobody(supervisor, touching, capsys):
    now = time.monotonic()
    for passed in range(20):
        # As after a suspended machine: long between the looks, and nobody had time to touch anything.
        supervisor.look(now + passed * 600)
    assert touching.identity() is not None and capsys.readouterr().err == ""


class Server:
    """A web part that answers, late, or not at all."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(outer.delay)
                try:
                    self.send_response(outer.status)
                    self.end_headers()
                except OSError:
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def asks(sign: AnswerSign, seconds: float) -> list[str]:
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        if why := sign.misses(time.monotonic()):
            found.append(why)
        time.sleep(0.05)
    return found


def test_a_web_part_that_answers_no_more_stands_still(server):
    sign = AnswerSign(server.url, 2.0)
    sign.began(time.monotonic())
    assert asks(sign, 1.5) == []
    server.delay = 30
    found = asks(sign, 6)
    assert found and found[0].startswith("it answered no request for 2 s")


def test_a_refusal_is_an_answer(server):
    server.status = 503
    sign = AnswerSign(server.url, 1.0)
    assert asks(sign, 3) == []
    assert sign._heard is not None


def test_a_slow_one_that_answers_now_and_then_is_left_alone(server):
    sign = AnswerSign(server.url, 2.0)
    asks(sign, 1)
    for delay in (1.0, 0.0) * 3:
        server.delay = delay
        assert asks(sign, 0.8) == []


def test_until_its_first_answer_it_is_starting(server):
    server.delay = 30
    assert asks(AnswerSign(server.url, 0.5), 4) == []


def test_after_a_pause_of_the_watcher_it_counts_anew(server):
    sign = AnswerSign(server.url, 2.0)
    asks(sign, 1)
    server.delay = 30
    now = time.monotonic()
    assert [sign.misses(now + 600 * passed) for passed in range(1, 9)] == [""] * 8


@pytest.mark.parametrize("text", ["soon", "1", "-4", "nan", "1e9"])
def test_a_setting_that_is_none_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("ANNEAL_HUNG", text)
    with pytest.raises(ValueError, match=r"ANNEAL_HUNG is .* from 3 to 3600"):
        hung_after()


def test_the_setting(monkeypatch):
    assert hung_after() == standstill.HUNG
    monkeypatch.setenv("ANNEAL_HUNG", "6.5")
    assert hung_after() == 6.5


@pytest.mark.django_db
def test_the_database_is_asked_for_real(monkeypatch):
    assert database_answers()
    parameters = connections["default"].get_connection_params()
    monkeypatch.setattr(
        connections["default"], "get_connection_params", lambda: {**parameters, "port": 1}
    )
    assert not database_answers()
