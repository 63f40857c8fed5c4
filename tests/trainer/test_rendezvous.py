"""Asking the server where the first machine of a gang listens."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from trainer import rendezvous as module
from trainer.rendezvous import Over, rendezvous


class Turned(Exception):
    pass


@pytest.fixture
def server(monkeypatch):
    """Answers one after the other from a list of (status, body)."""
    answers: list[tuple[int, object]] = []
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setattr(module, "ASK_EVERY", 0.01)
    yield f"ws://127.0.0.1:{found.server_port}", answers, asked
    found.shutdown()
    found.server_close()


@pytest.fixture
def lease(tmp_path, server):
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"server": server[0], "token": "t0"}))
    return path


def test_it_is_asked_again_until_the_first_machine_has_told(lease, server):
    _, answers, asked = server
    answers += [
        (200, {"ready": False, "address": "", "port": 0}),
        (503, {}),
        (200, {"ready": True, "address": "192.0.2.7", "port": 4711}),
    ]
    assert rendezvous(lease, lambda: None) == ("192.0.2.7", 4711)
    assert asked == ["/api/rendezvous Bearer t0"] * 3


def test_an_attempt_that_is_over_is_not_waited_for(lease, server):
    server[1].append((409, {"detail": "this attempt is over"}))
    with pytest.raises(Over, match="409: this attempt is over"):
        rendezvous(lease, lambda: None)


def test_who_waits_can_be_ended(lease, server):
    def turn() -> None:
        raise Turned

    with pytest.raises(Turned):
        rendezvous(lease, turn)


def test_a_server_that_is_away_is_asked_again(lease, monkeypatch):
    lease.write_text(json.dumps({"server": "ws://127.0.0.1:9", "token": "t0"}))
    monkeypatch.setattr(module, "ASK_EVERY", 0.0)
    turns = []

    def turn() -> None:
        turns.append(1)
        if len(turns) > 2:
            raise Turned

    with pytest.raises(Turned):
        rendezvous(lease, turn)
