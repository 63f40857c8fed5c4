"""Preparing an attempt: its part of a gang, the models that were registered, what is pinned."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from orchestrator.external_folder import identity_of
from orchestrator.node import launch
from orchestrator.node.hosts import Hosts
from orchestrator.node.launch import ThisNode
from orchestrator.node.prepare import CannotPrepare, prepare
from tests.orchestrator.conftest import SPEC
from tests.orchestrator.model_folder import model_write
from trainer.gang import Gang, gang_read
from trainer.rundir import RunDir


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


# --- models that were registered, and what is pinned ----------------------------------------------


def with_model(place, part="model"):
    words = order(None)
    spec = words["spec"]
    if part == "reference":
        data = {"train": [{"source": "noisy-sort"}]}
        spec = {**spec, "objective": {"type": "dpo"}, "data": data}
    words["spec"] = {**spec, part: {"name": "external:eeeeeeeeeeee"}}
    words["inputs"]["models"] = {"external:eeeeeeeeeeee": place} if place else {}
    return words


def external(source, **words):
    usual = {"kind": "path", "revision": "", "sha256": "", "name": "base"}
    return {"external": "e" * 12, "source": str(source), **usual, **words}


def carried_out(tmp_path, words):
    server = SimpleNamespace(socket_url="ws://127.0.0.1:9")
    return prepare(words, data_dir=tmp_path, server=server, gpus=[], address="")


@pytest.mark.parametrize(
    ("part", "option"), [("model", "--model-path"), ("reference", "--reference-path")]
)
def test_an_external_folder_is_used_where_it_lies(tmp_path, part, option):
    folder = model_write(tmp_path / "base")
    _, sha256 = identity_of(folder)
    found = carried_out(tmp_path / "d", with_model(external(folder, sha256=sha256), part))
    place = found.arguments.index(option)
    assert found.arguments[place + 1] == str(folder)
    assert json.loads(found.attempt.lease.read_text())["uses"] == []


def test_a_hub_model_goes_to_the_trainer_by_its_name(tmp_path):
    found = carried_out(tmp_path, with_model(external("NAME/MODEL", kind="hub")))
    assert found.arguments[found.arguments.index("--model-path") + 1] == "NAME/MODEL"


def test_a_folder_that_is_not_the_registered_one_is_refused_with_a_sentence(tmp_path):
    folder = model_write(tmp_path / "base")
    (tmp_path / "empty").mkdir()
    for place, sentence in (
        (external(tmp_path / "nothing"), r"model.name: external:e+ \(base\): .*/nothing is not th"),
        (external(tmp_path / "empty"), "holds no model"),
        (external(folder, sha256="0" * 64), "config.json is not what was registered"),
        (None, "external:e+ is registered no more"),
    ):
        with pytest.raises(CannotPrepare, match=sentence):
            carried_out(tmp_path / "d", with_model(place))


def test_what_is_pinned_is_known_before_the_trainer_starts(tmp_path):
    run = RunDir(tmp_path / "runs" / ("r" * 12))
    carried_out(tmp_path, order(None, pins=[40, 20]))
    assert run.pins() == {20, 40}
    carried_out(tmp_path, order(None))
    assert run.pins() == frozenset(), "a server of an earlier version pins nothing"


def test_the_models_of_a_playground_go_to_the_trainer_by_their_names(tmp_path):
    folder = model_write(tmp_path / "base")
    names = ["external:" + "e" * 12, "NAME/MODEL"]
    words = with_model(None)
    words["spec"] = {"kind": "play", "play": {"models": names}}
    words["inputs"]["models"] = {names[0]: external(folder)}
    found = carried_out(tmp_path / "d", words)
    place = found.arguments.index("--play-path")
    assert found.arguments[place + 1] == f"{names[0]}={folder}"
    assert found.arguments.count("--play-path") == 1, "a hub id and a path stand for themselves"
    words["inputs"]["models"] = {}
    with pytest.raises(CannotPrepare, match=r"play.models.0: external:e+ is registered no more"):
        carried_out(tmp_path / "e", words)


def test_the_models_of_rewards_go_to_the_trainer_by_their_names(tmp_path):
    folder = model_write(tmp_path / "scorer")
    name = "external:" + "e" * 12
    for index, module in ((None, "trainer"), (1, "trainer.deputy")):
        words = order(index)
        rewards = [
            {"type": "exact-match"},
            {"type": "reward-model", "model": name},
            {"type": "reward-model", "model": "NAME/MODEL", "name": "hub"},
        ]
        words["spec"] = {**words["spec"], "rewards": rewards}
        words["inputs"]["models"] = {name: external(folder)}
        found = carried_out(tmp_path / f"d{index}", words)
        place = found.arguments.index("--reward-path")
        assert (found.module, found.arguments[place + 1]) == (module, f"{name}={folder}")
        assert found.arguments.count("--reward-path") == 1
        words["inputs"]["models"] = {}
        with pytest.raises(CannotPrepare, match=r"rewards.1.model: external:e+ is registered no m"):
            carried_out(tmp_path / f"e{index}", words)
