"""The node's process: how it joins, what it says, and when it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from orchestrator.node import worker
from orchestrator.node.address import CannotJoin
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import ThisNode
from orchestrator.node.server import Refused, Unreachable
from orchestrator.node.worker import join

JOINED = {"name": "n1", "slots": 1, "instance": "i", "broker": {}, "heartbeat_seconds": 0.05}


class Script:
    """A server that answers by a list: an exception is raised, anything else returned."""

    socket_url = "ws://127.0.0.1:9"

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict]] = []

    def post(self, path: str, body: dict) -> object:
        self.asked.append((path, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_it_waits_for_a_server_that_is_not_up_yet(tmp_path):
    server = Script(Unreachable("down"), Unreachable("down"), JOINED)
    assert join(server, name="n1", slots=2, data_dir=tmp_path) == JOINED
    assert len(server.asked) == 3
    assert server.asked[0][1]["slots"] == 2


def test_it_proves_to_be_on_the_servers_machine(tmp_path):
    secret = tmp_path / "proof"
    secret.write_text("xyz\n")
    server = Script(Refused(409, "this machine only", {"Anneal-Proof": str(secret)}), JOINED)
    join(server, name="", slots=None, data_dir=tmp_path)
    assert server.asked[1][1]["proof"] == "xyz"


@pytest.mark.parametrize(
    "refusal",
    [
        Refused(401, "the node token is unknown", {}),
        Refused(409, "set BROKER_URL", {"Anneal-Proof": "/nowhere/proof"}),
    ],
)
def test_a_refusal_ends_it_with_the_servers_sentence(tmp_path, refusal):
    with pytest.raises(CannotJoin, match=str(refusal)):
        join(Script(refusal), name="", slots=None, data_dir=tmp_path)


def test_it_says_which_store_it_puts_checkpoints_in(tmp_path):
    server = Script(JOINED)
    join(server, name="n1", slots=1, data_dir=tmp_path)
    join(server, name="n1", slots=1, data_dir=tmp_path, artifacts="s3://bucket/x")
    assert [body.get("artifacts") for _, body in server.asked] == [None, "s3://bucket/x"]


def test_the_broker_is_the_one_that_the_server_names(tmp_path):
    app = SimpleNamespace(conf=SimpleNamespace(broker_transport_options={"data_folder_in": "x"}))
    worker._broker_use(app, {"url": "redis://broker:6379/0"})
    assert (app.conf.broker_url, app.conf.broker_transport_options) == ("redis://broker:6379/0", {})
    worker._broker_use(app, {"url": "filesystem://", "folder": str(tmp_path)})
    options = app.conf.broker_transport_options
    assert options["data_folder_in"] == options["data_folder_out"] == str(tmp_path / "messages")


def test_heartbeats_outlive_a_server_that_is_away_and_fence_what_they_are_told(
    tmp_path, monkeypatch
):
    node = ThisNode("n1", Script(Unreachable("away")), tmp_path, Hosts(tmp_path), "i")
    node.preparing.begin(("r" * 12, 3))
    node.server.answers.append({"fenced": [{"run": "r" * 12, "attempt": 1}]})
    fenced: list[tuple[str, int]] = []
    monkeypatch.setattr(node.hosts, "fence", lambda run, attempt: fenced.append((run, attempt)))
    ending = threading.Event()
    thread = threading.Thread(target=worker._beat, args=(node, 0.02, ending))
    thread.start()
    deadline = time.monotonic() + 10
    while not fenced and time.monotonic() < deadline:
        time.sleep(0.01)
    ending.set()
    thread.join()
    assert fenced[0] == ("r" * 12, 1)
    path, said = node.server.asked[0]
    assert (path, said["instance"], said["expect_next_in"]) == ("/heartbeats", "i", 0.06)
    assert said["runs"] == [{"run": "r" * 12, "attempt": 3}]


def test_a_node_that_was_revoked_ends_itself(tmp_path, monkeypatch):
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(worker.os, "kill", lambda pid, number: sent.append((pid, number)))
    server = Script(Refused(401, "the node token is unknown or was revoked", {}))
    worker._beat(ThisNode("n1", server, tmp_path, Hosts(tmp_path)), 0.02, threading.Event())
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_it_frees_what_a_deleted_run_took_up_and_says_how_much(tmp_path):
    folder = tmp_path / "runs" / ("r" * 12)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(100_000))
    gone = {"run": "r" * 12, "checkpoints": []}
    server = Script({"fenced": [], "remove": [gone]}, {"applied": True}, {"fenced": []})
    ending = threading.Event()
    node = ThisNode("n1", server, tmp_path, Hosts(tmp_path))
    thread = threading.Thread(target=worker._beat, args=(node, 0.02, ending))
    thread.start()
    deadline = time.monotonic() + 10
    while len(server.asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    ending.set()
    thread.join()
    path, said = server.asked[1]
    assert (path, said["run"]) == ("/removals", "r" * 12)
    assert said["bytes"] >= 100_000 and not folder.exists()


def test_a_deleted_checkpoint_goes_and_is_reported_unless_something_is_being_prepared(tmp_path):
    gone = {"checkpoint": "c" * 12, "run": "r" * 12, "path": "checkpoints/step-4", "sha256": "s"}
    server = Script({"applied": True})
    node = ThisNode("n1", server, tmp_path, Hosts(tmp_path))
    node.preparing.begin(("x" * 12, 1))
    worker._drop(node, gone)
    assert server.asked == []
    node.preparing.end(("x" * 12, 1))
    worker._drop(node, gone)
    assert server.asked == [(f"/checkpoints/{'c' * 12}/dropped", {"sha256": "s", "bytes": 0})]
