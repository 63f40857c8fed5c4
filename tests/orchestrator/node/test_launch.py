"""Starting an order: on the GPUs that the server gave, and nothing that this version cannot start."""

from __future__ import annotations

import errno
import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.artifacts.store import StoreError
from orchestrator.node import inventory as machine
from orchestrator.node import launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import GpuBusy, ThisNode
from orchestrator.node.prepare import CannotPrepare
from orchestrator.node.server import Unreachable
from trainer.processes import ProcessName, processes_write
from trainer.rundir import RunDir


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A machine with GPUs 0 to 3, of which live attempts use `node.hosts.taken`."""
    monkeypatch.setattr(launch, "gpus", lambda: [{"index": index} for index in range(4)])
    monkeypatch.setattr(launch, "GPU_WITHIN", 0.0)
    hosts = Hosts(tmp_path)
    monkeypatch.setattr(Hosts, "taken", set(), raising=False)
    monkeypatch.setattr(Hosts, "gpus_taken", lambda self: set(self.taken))
    return ThisNode("n1", None, tmp_path, hosts)


def order(**words: Any) -> dict[str, Any]:
    return {
        "run_id": "r" * 12,
        "attempt": 1,
        "spec": {},
        "gpus": [2],
        "processes": 1,
        "lease_seconds": 30.0,
        **words,
    }


class Told:
    """A server that hands out one order and keeps what it is told."""

    url = "http://127.0.0.1:9"

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/claims":
            return order(gpus=[])
        self.failed.append((body["cause"], body["message"]))
        return {}


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk", "its disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk", "its disk is full"),
        (OSError(errno.EACCES, "Permission denied"), "crash", "Permission denied"),
        (Unreachable("timed out"), "node-lost", "lost the server while it prepared the run: timed"),
        (StoreError("unreachable", "away"), "store-away", "n1 cannot fetch its checkpoint. away"),
        (CannotPrepare("no such data"), "bad-input", "no such data"),
        (KeyError("spec"), "crash", "could not start the run: 'spec'"),
    ],
)
def test_what_keeps_an_order_from_starting_is_told_by_its_cause(
    node, monkeypatch, error, cause, words
):
    node.server = Told()

    def prepare(order: Any, **words: Any) -> Any:
        raise error

    monkeypatch.setattr(launch, "prepare", prepare)
    monkeypatch.setattr(launch, "_this", [node])
    launch.order_take("r" * 12, 1)
    ((told, message),) = node.server.failed
    assert told == cause and words in message
    assert not node.preparing


@pytest.mark.parametrize(("given", "seen"), [([2], "2"), ([], "")])
def test_the_trainer_sees_the_gpus_that_were_given_and_no_others(node, monkeypatch, given, seen):
    started: dict[str, Any] = {}
    prepared = SimpleNamespace(attempt=None, arguments=[], module="trainer")

    def prepare(order: Any, **words: Any) -> Any:
        started["gpus"] = words["gpus"]
        return prepared

    def host_start(attempt: Any, arguments: Any, env: dict[str, str]) -> Any:
        started["env"] = env
        return SimpleNamespace(pid=1, wait=lambda: None, poll=lambda: 0)

    monkeypatch.setattr(launch, "prepare", prepare)
    monkeypatch.setattr(launch, "host_start", host_start)
    launch._start(node, order(gpus=given))
    assert (started["gpus"], started["env"]["CUDA_VISIBLE_DEVICES"]) == (given, seen)
    assert started["env"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_gpu_that_an_earlier_attempt_still_uses_is_not_shared(node, monkeypatch):
    Hosts.taken = {2}
    with pytest.raises(GpuBusy, match="GPU 2 of n1 is still used by an earlier attempt"):
        launch._gpus_for(node, order())
    monkeypatch.setattr(launch, "GPU_WITHIN", 5.0)
    looks = iter([{2}, set()])
    monkeypatch.setattr(Hosts, "gpus_taken", lambda self: next(looks))
    assert launch._gpus_for(node, order()) == [2]


def test_a_gpu_of_an_attempt_that_is_being_prepared_is_not_shared(node, monkeypatch):
    """Its host does not run yet: nothing on the machine uses the GPU, and it is spoken for all the same."""
    for key in (("a" * 12, 1), ("b" * 12, 1)):
        node.preparing.begin(key)
    assert launch._gpus_for(node, order(run_id="a" * 12)) == [2]
    assert node.preparing.gpus_of() == {"a" * 12: [2]}
    with pytest.raises(GpuBusy, match="GPU 2 of n1 is still used"):
        launch._gpus_for(node, order(run_id="b" * 12, gpus=[1, 2], processes=1))
    assert launch._gpus_for(node, order(run_id="b" * 12, gpus=[1])) == [1]
    node.preparing.end(("a" * 12, 1))
    assert launch._gpus_for(node, order(run_id="b" * 12)) == [2]


def test_an_attempt_that_was_taken_for_over_meanwhile_does_not_start(node, monkeypatch):
    key, reported = ("r" * 12, 1), []

    def prepare(order: Any, **words: Any) -> Any:
        node.preparing.fence(key)
        return SimpleNamespace(attempt=None, arguments=[], module="trainer")

    monkeypatch.setattr(launch, "prepare", prepare)
    monkeypatch.setattr(launch, "host_start", pytest.fail)
    monkeypatch.setattr(launch, "_fail", lambda *words: reported.append(words))
    node.server = SimpleNamespace(post=lambda path, body: order())
    launch.node_be(node)
    launch.order_take(*key)
    assert reported == [] and not node.preparing


def test_while_the_server_is_silent_longer_than_a_lease_nothing_starts(node, monkeypatch):
    started = []
    monkeypatch.setattr(launch, "LOOK_EVERY", 0.01)
    node.preparing.begin(("r" * 12, 1))
    node.heard = long_ago = time.monotonic() - 100

    def wait() -> None:
        try:
            launch._still_ours(node, ("r" * 12, 1), long_ago, 30.0)
            started.append("ours")
        except launch.TakenForOver:
            started.append("over")

    for word, happens in (
        ("ours", lambda: setattr(node, "heard", time.monotonic())),
        ("over", lambda: node.preparing.fence(("r" * 12, 1))),
    ):
        node.heard = long_ago
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive() and not started, "it waits for the server's word"
        happens()
        thread.join(10)
        assert started == [word]
        started.clear()


def test_a_new_hosts_gpus_stay_taken_until_it_has_noted_itself(node, monkeypatch, tmp_path):
    attempt = RunDir(tmp_path / "runs" / ("r" * 12)).attempt(1)
    attempt.path.mkdir(parents=True)
    monkeypatch.setattr(launch, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(
        launch,
        "prepare",
        lambda order, **words: SimpleNamespace(attempt=attempt, arguments=[], module="trainer"),
    )
    host = SimpleNamespace(pid=1, wait=lambda: None, poll=lambda: None)
    monkeypatch.setattr(launch, "host_start", lambda *words: host)
    node.server = SimpleNamespace(post=lambda path, body: order())
    launch.node_be(node)
    thread = threading.Thread(target=launch.order_take, args=("r" * 12, 1))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and node.preparing.gpus_of() == {"r" * 12: [2]}
    processes_write(attempt.processes, {"host": ProcessName.of(os.getpid())})
    thread.join(10)
    assert not thread.is_alive() and node.preparing.gpus_of() == {}


def test_what_this_version_cannot_start_is_refused_with_a_sentence(node):
    with pytest.raises(
        CannotPrepare, match=r"n1 starts at most 16 training processes for a run, and 17"
    ):
        launch._gpus_for(node, order(gpus=[], processes=17))
    assert launch._gpus_for(node, order(gpus=[0, 1], processes=2)) == [0, 1]
    with pytest.raises(CannotPrepare, match="was to use GPU 7, and does not see it"):
        launch._gpus_for(node, order(gpus=[7]))


def test_a_machine_without_gpus_hides_none(node, monkeypatch):
    monkeypatch.setattr(launch, "gpus", list)
    assert launch._gpus_for(node, order(gpus=[])) is None


def test_the_inventory_says_how_many_processes_a_run_may_have(tmp_path):
    assert machine.inventory(tmp_path)["processes"] == machine.PROCESSES_MOST == 16
