"""Starting an order: on the GPUs that the server gave, and nothing that this version cannot start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.node import inventory as machine
from orchestrator.node import launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import GpuBusy, ThisNode
from orchestrator.node.prepare import CannotPrepare


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
        **words,
    }


@pytest.mark.parametrize(("given", "seen"), [([2], "2"), ([], "")])
def test_the_trainer_sees_the_gpus_that_were_given_and_no_others(node, monkeypatch, given, seen):
    started: dict[str, Any] = {}
    prepared = SimpleNamespace(attempt=None, arguments=[])

    def prepare(order: Any, **words: Any) -> Any:
        started["gpus"] = words["gpus"]
        return prepared

    def host_start(attempt: Any, arguments: Any, env: dict[str, str]) -> Any:
        started["env"] = env
        return SimpleNamespace(pid=1, wait=lambda: None)

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


def test_what_this_version_cannot_start_is_refused_with_a_sentence(node):
    with pytest.raises(CannotPrepare, match=r"resources.gpus: n1 starts one training process"):
        launch._gpus_for(node, order(gpus=[0, 1], processes=2))
    with pytest.raises(CannotPrepare, match="was to use GPU 7, and does not see it"):
        launch._gpus_for(node, order(gpus=[7]))


def test_a_machine_without_gpus_hides_none(node, monkeypatch):
    monkeypatch.setattr(launch, "gpus", list)
    assert launch._gpus_for(node, order(gpus=[])) is None


def test_the_inventory_says_how_many_processes_a_run_may_have(tmp_path):
    assert machine.inventory(tmp_path)["processes"] == machine.PROCESSES_MOST == 1
