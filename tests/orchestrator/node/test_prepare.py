"""Preparing a machine's part of a gang: its place, its lease, and whether it leads or has a deputy."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from orchestrator.node import launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import ThisNode
from orchestrator.node.prepare import CannotPrepare, prepare
from tests.orchestrator.conftest import SPEC
from trainer.gang import Gang, gang_read


def order(index=None, **words):
    gang = None if index is None else {"index": index, "names": ["n1", "n2"], "secret": "s"}
    return {
        "run_id": "r" * 12,
        "attempt": 2,
        "spec": {**SPEC, "resources": {"nodes": 1 if index is None else 2}},
        "lease_token": "t",
        "lease_seconds": 30.0,
        "resume": None,
        "inputs": {"models": {}, "datasets": {}},
        "knobs": {},
        "asks": {},
        "overrides": {"optimizer.lr": 0.5},
        "voids": [[1, 40]],
        "past": [],
        "continues_here": True,
        "gpus": [],
        "processes": 1,
        "gang": gang,
        **words,
    }


def prepared(tmp_path, index):
    server = SimpleNamespace(socket_url="ws://127.0.0.1:9")
    return prepare(order(index), data_dir=tmp_path, server=server, gpus=[], address="192.0.2.7")


@pytest.mark.parametrize(
    ("index", "module", "begins"),
    [
        (None, "trainer", ["resume", "RUN", "--attempt", "2", "--void", "1:40"]),
        (0, "trainer", ["resume", "RUN", "--attempt", "2", "--void", "1:40"]),
        (1, "trainer.deputy", ["--dir", "RUN", "--attempt", "2"]),
    ],
)
def test_the_first_machine_runs_the_trainer_and_the_others_a_deputy(
    tmp_path, index, module, begins
):
    found = prepared(tmp_path, index)
    run = str(tmp_path / "runs" / ("r" * 12))
    assert found.module == module
    assert found.arguments == [run if word == "RUN" else word for word in begins] + [
        "optimizer.lr=0.5"
    ]


def test_its_place_is_noted_with_its_own_address(tmp_path):
    attempt = prepared(tmp_path, 1).attempt
    assert gang_read(attempt.gang) == Gang(1, ("n1", "n2"), "192.0.2.7", "s")
    assert json.loads(attempt.lease.read_text())["member"] == 1


def test_one_machine_alone_has_no_place(tmp_path):
    attempt = prepared(tmp_path, None).attempt
    assert gang_read(attempt.gang) is None
    assert "member" not in json.loads(attempt.lease.read_text())


def test_a_machine_without_an_address_takes_no_part(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "gpus", list)
    node = ThisNode("n2", SimpleNamespace(), tmp_path, Hosts(tmp_path))
    with pytest.raises(CannotPrepare, match="n2 has no address for other machines"):
        launch._start(node, order(1))
