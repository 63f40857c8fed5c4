"""What a node keeps of what it fetched: never anything that is in use or needed, and nothing for ever."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import pytest

from orchestrator.node import fetched
from orchestrator.node.fetched import DAY, HOUR, Fetched
from orchestrator.node.hosts import Hosts
from orchestrator.node.preparing import Preparing
from orchestrator.node.server import Unreachable
from trainer.processes import ProcessName, processes_write
from trainer.rundir import RunDir, write_atomic


class Says:
    """A server that says what is needed."""

    def __init__(self) -> None:
        self.needed: dict[str, list[str]] = {"checkpoints": [], "datasets": []}
        self.asked: list[dict[str, list[str]]] = []
        self.away = False

    def post(self, path, body):
        assert path == "/fetched/needed"
        self.asked.append(body)
        if self.away:
            raise Unreachable("away")
        return {kind: sorted(set(body[kind]) & set(self.needed[kind])) for kind in body}


@pytest.fixture
def larder(tmp_path):
    found = Fetched(Says(), tmp_path, Hosts(tmp_path), Preparing(), shares_server=False)
    (tmp_path / "fetched").mkdir()
    (tmp_path / "datasets").mkdir()
    return found


def put(larder, path, age, size=100_000):
    """A checkpoint's folder, or a file, last used `age` seconds ago."""
    target = larder.data_dir / path
    if target.parent.name == "fetched":
        target.mkdir()
        (target / "model.safetensors").write_bytes(os.urandom(size))
    else:
        target.write_bytes(os.urandom(size))
    os.utime(target, (time.time() - age,) * 2)
    return target


def test_what_nobody_wanted_for_long_goes_and_the_rest_stays(larder):
    old, young = put(larder, "fetched/oldoldoldold", 8 * DAY), put(larder, "fetched/new", 2 * DAY)
    rows = put(larder, f"datasets/{'a' * 64}.jsonl", 9 * DAY)
    half = put(larder, f"datasets/.{'b' * 64}.jsonl.bbbbbbbbbbbb.part", 9 * DAY)
    draft = put(larder, "fetched/brokenbroken.fetching", 9 * DAY)
    assert larder.prune() >= 400_000
    assert [path.exists() for path in (old, young, rows, half, draft)] == [
        *(False, True, False, False, False),
    ]
    assert larder.prune() == 0 and len(larder.server.asked) == 1, "nothing is due: nobody is asked"


def test_what_a_run_that_has_not_ended_names_stays(larder):
    model = put(larder, "fetched/modelmodel22", 30 * DAY)
    rows = put(larder, f"datasets/{'a' * 64}.jsonl.gz", 30 * DAY)
    larder.server.needed = {"checkpoints": ["modelmodel22"], "datasets": ["a" * 64]}
    assert larder.prune() == 0 and model.exists() and rows.exists()
    larder.server.needed["checkpoints"] = []
    assert larder.prune() > 0 and not model.exists() and rows.exists()


def test_without_the_servers_word_everything_stays(larder):
    old = put(larder, "fetched/old", 30 * DAY)
    larder.server.away = True
    assert larder.prune() == 0 and old.exists()


def test_what_a_live_attempt_was_started_with_stays(larder):
    model = put(larder, "fetched/inuse", 30 * DAY)
    attempt = RunDir(larder.data_dir / "runs" / ("r" * 12)).attempt(1)
    attempt.path.mkdir(parents=True)
    write_atomic(attempt.lease, json.dumps({"uses": ["fetched/inuse"]}), 0o600)
    with subprocess.Popen(["sleep", "60"]) as process:
        processes_write(attempt.processes, {"trainer": ProcessName.of(process.pid)})
        assert larder.prune() == 0 and model.exists()
        process.kill()
    assert larder.prune() > 0 and not model.exists()


def test_while_an_order_is_prepared_nothing_goes_and_what_it_used_is_young_then(larder):
    model = put(larder, "fetched/model", 30 * DAY)
    larder.preparing.begin(("r" * 12, 1))
    assert larder.prune() == 0
    fetched.used(model)
    larder.preparing.end(("r" * 12, 1))
    assert larder.prune() == 0 and model.exists()


def test_what_was_used_since_the_server_was_asked_stays(larder, monkeypatch):
    model = put(larder, "fetched/model", 30 * DAY)
    ask = larder.server.post

    def post(path, body):
        fetched.used(model)
        return ask(path, body)

    monkeypatch.setattr(larder.server, "post", post)
    assert larder.prune() == 0 and model.exists()


def test_too_much_goes_by_the_longest_unused_first_and_never_within_the_hour(larder, monkeypatch):
    monkeypatch.setattr(fetched, "KEPT_BYTES", 250_000.0)
    third, first, second = (
        put(larder, f"fetched/{name}", hours * HOUR)
        for name, hours in (("a", 2), ("b", 9), ("c", 5))
    )
    new = put(larder, "fetched/d", 60)
    larder.prune()
    assert [path.exists() for path in (first, second, third, new)] == [False, False, True, True]


def test_data_sets_of_the_server_itself_are_no_copies(larder):
    larder.shares_server = True
    rows = put(larder, f"datasets/{'a' * 64}.jsonl", 99 * DAY)
    copy = put(larder, "fetched/copy", 99 * DAY)
    larder.prune()
    assert rows.exists() and not copy.exists()


def test_what_a_killed_node_had_taken_out_of_the_way_is_removed(larder, monkeypatch):
    model = put(larder, "fetched/model", 30 * DAY)
    delete = fetched._delete

    def dies(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetched, "_delete", dies)
    with pytest.raises(KeyboardInterrupt):
        larder.prune()
    assert not model.exists() and list(model.parent.iterdir())
    monkeypatch.setattr(fetched, "_delete", delete)
    larder.prune()
    assert list(model.parent.iterdir()) == []


def test_it_looks_again_and_outlives_what_goes_wrong(larder, monkeypatch):
    looks, ending = [], threading.Event()

    def prune():
        looks.append(1)
        if len(looks) > 2:
            ending.set()
        raise OSError("the disk is odd")

    monkeypatch.setattr(fetched, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(larder, "prune", prune)
    larder.work(ending)
    assert len(looks) == 3
