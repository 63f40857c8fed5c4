"""Checkpoints in an object store: real nodes with disks of their own, a real Redis, and a real S3 server.

A node is killed while it sends, a run goes on elsewhere, an evaluation reads a checkpoint of another node, a wrong
byte is refused, and a deleted run leaves nothing behind. None of it passes through the server's disk.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.artifacts.store import Store
from tests.chaos.brokers import Redis
from tests.chaos.far_nodes import FarNode
from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec, trains
from tests.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]


class Site:
    """A server whose own node takes nothing, and two nodes, which share a bucket."""

    def __init__(self, redis: Redis, s3: S3) -> None:
        self.store = Store(s3.bucket())
        shared = {**s3.env, "ANNEAL_ARTIFACTS_URL": self.store.url}
        self.stack = Stack()
        self.stack.env |= {"BROKER_URL": redis.url, **shared}
        self.nodes: dict[str, FarNode] = {}
        try:
            self.stack.up()
            (own,) = self.stack.call("GET", "/nodes")["items"]
            self.stack.call("PATCH", f"/nodes/{own['id']}", {"drained": True})
            for name in ("east", "west"):
                self.nodes[name] = FarNode(self.stack, name)
                self.nodes[name].more = shared
                self.nodes[name].start()
        except BaseException:
            self.remove()
            raise

    def said(self) -> str:
        return self.stack.said() + "".join(node.said() for node in self.nodes.values())

    def checkpoints(self, run: str) -> list[dict[str, Any]]:
        """Those that are kept, newest first."""
        found: list[dict[str, Any]] = self.stack.call("GET", f"/runs/{run}/checkpoints")["items"]
        return found

    def all_stored(self, run: str) -> bool:
        kept = self.checkpoints(run)
        return bool(kept) and all(one["stored"] for one in kept)

    def objects(self, checkpoint: dict[str, Any]) -> dict[str, int]:
        """Size by name of what the bucket holds of a checkpoint."""
        name = f"{checkpoint['step']}-{checkpoint['sha256'][:16]}"
        return self.store.sizes(f"checkpoints/{checkpoint['run']}/{name}")

    def remove(self) -> None:
        """Leave nothing behind."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.kill_worker()
        self.stack.remove()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    redis, s3 = Redis(), S3()
    redis.start()
    s3.start()
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    found = None
    try:
        found = Site(redis, s3)
        yield found
    finally:
        if found is not None:
            found.remove()
        redis.kill()
        s3.stop()


def test_checkpoints_live_in_the_store_and_runs_go_on_from_it(site: Site) -> None:
    stack, east, west = site.stack, site.nodes["east"], site.nodes["west"]
    saves = {"every_steps": 20, "keep_last": 4}
    run = stack.launch(
        spec(steps=400, checkpoint=saves, batch={"prompts_per_step": 8}),
    )
    stack.wait(lambda: trains(stack, run), 90, site.said)
    first, second = (east, west) if stack.run(run)["node"] == "east" else (west, east)

    # kill -9 of the node's worker while it sends; the training goes on, and so does the next worker's sending.
    stack.wait(lambda: list((first.data / "outbox").glob("*")), 60, site.said)
    first.kill_worker()
    first.start()
    stack.call("POST", f"/runs/{run}/pause", {})
    paused = stack.wait_state(run, "paused")
    assert 0 < paused["step"] < 400, "it was too quick to be paused"
    stack.wait(lambda: site.all_stored(run), 60, site.said)
    kept = site.checkpoints(run)
    for one in kept:
        there = site.objects(one)
        assert "manifest.json" in there and sum(there.values()) == one["bytes"]

    # It goes on elsewhere from the store, though the first node's disk is out of reach.
    first.change(drained=True)
    first.kill_worker()
    stack.call("POST", f"/runs/{run}/resume", {})
    done = stack.wait_state(run, "finished", "failed", within=120)
    assert (done["state"], done["node"], done["attempt"]) == ("finished", second.name, 2), done
    stack.assert_everything_arrived(run)
    fetched = second.data / "runs" / run / "attempt-2" / "journal.jsonl"
    steps = [json.loads(line)["step"] for line in fetched.open() if '"metrics"' in line]
    assert min(steps) == kept[0]["step"] + 1, "from the newest checkpoint of the first node"

    # Only what the keep policy keeps is left in the bucket.
    stack.wait(lambda: site.all_stored(run), 60, site.said)
    names = {f"{one['step']}-{one['sha256'][:16]}" for one in site.checkpoints(run)}
    stack.wait(lambda: set(site.store.folders(f"checkpoints/{run}")) == names, 30, site.said)

    # People read it through the server, which has no copy on its disk.
    newest = site.checkpoints(run)[0]
    status, manifest = stack.ask("GET", f"/checkpoints/{newest['id']}/files/manifest.json")
    assert status == 200 and hashlib.sha256(manifest.encode()).hexdigest() == newest["sha256"]
    assert not (stack.data / "artifacts" / "checkpoints").exists()
    health = stack.call("GET", "/health")["artifacts"]
    assert health == {"url": site.store.url, "state": "ok", "waiting": 0}

    # An evaluation on the other node reads a checkpoint that only the store has for it.
    first.start()
    first.change(drained=False)
    at = {"labels": [f"at={first.name}"]}
    measured = stack.launch(
        {
            **spec(),
            "kind": "evaluate",
            "model": {"name": f"checkpoint:{newest['id']}"},
            "resources": at,
        }
    )
    assert stack.wait_state(measured, "finished", "failed", within=90)["state"] == "finished"
    assert (first.data / "fetched" / newest["id"] / "manifest.json").read_text() == manifest

    # A wrong byte in the bucket is refused by its file's name.
    key = f"checkpoints/{run}/{newest['step']}-{newest['sha256'][:16]}/model.safetensors"
    (stack.folder / "other").write_bytes(b"x" * site.store.size(key))
    site.store.put(stack.folder / "other", key)
    older = site.checkpoints(run)[1]
    assert older["id"] != newest["id"]
    (first.data / "fetched" / newest["id"]).rename(first.data / "fetched-before")
    spoiled = stack.launch(
        {
            **spec(),
            "kind": "evaluate",
            "model": {"name": f"checkpoint:{newest['id']}"},
            "resources": at,
        }
    )
    refused = stack.wait_state(spoiled, "finished", "failed", within=90)
    assert refused["state"] == "failed" and refused["cause"] == "bad-input"
    assert "model.safetensors arrived with SHA-256" in refused["reason"]

    # A deleted run leaves nothing in the bucket.
    for one in (measured, spoiled, run):
        stack.call("DELETE", f"/runs/{one}")
    stack.wait(lambda: not site.store.folders(f"checkpoints/{run}"), 60, site.said)

    # No process wrote a credential anywhere that people or other machines read.
    for log in [*stack.folder.glob("*.log"), *(stack.data / "logs").glob("*.log")]:
        assert "secret-of-the-tests" not in log.read_text(), log
    for disk in stack.disks:
        for path in (disk / "runs").rglob("*.json*"):
            assert "secret-of-the-tests" not in path.read_text(), path
