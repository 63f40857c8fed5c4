"""Checkpoints in an object store: real nodes with disks of their own, a real Redis, and a real S3 server.

East speaks to the store itself; west has neither its URL nor credentials, and works through the server. A node is
killed while it sends, a run goes on elsewhere, an evaluation reads a checkpoint of another node, a wrong byte is
refused, and a deleted run leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.artifacts.store import Store
from tests.chaos.brokers import Redis
from tests.chaos.far_nodes import FarNode
from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec, trains
from tests.s3 import S3, clients_forget
from trainer.journal import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]


class Site:
    """A server whose own node takes nothing, and two nodes, of which one shares a bucket with it."""

    def __init__(self, redis: Redis, s3: S3) -> None:
        self.store = Store(s3.bucket())
        shared = {**s3.env, "ANNEAL_ARTIFACTS_URL": self.store.url}
        self.stack = Stack()
        # Nodes ask once a second what they are to send.
        self.stack.env |= {"BROKER_URL": redis.url, "ANNEAL_HEARTBEAT": "1", **shared}
        self.nodes: dict[str, FarNode] = {}
        try:
            self.stack.up()
            (own,) = self.stack.call("GET", "/nodes")["items"]
            self.stack.call("PATCH", f"/nodes/{own['id']}", {"drained": True})
            for name in ("east", "west"):
                self.nodes[name] = FarNode(self.stack, name)
                self.nodes[name].more = shared if name == "east" else dict.fromkeys(shared, "")
            with ThreadPoolExecutor() as both:
                list(both.map(FarNode.start, self.nodes.values()))
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

    def settled(self, run: str) -> bool:
        """Whether the bucket holds the checkpoints that are kept and no others, and the server's disk none."""
        names = {f"{one['step']}-{one['sha256'][:16]}" for one in self.checkpoints(run)}
        here = list((self.stack.data / "artifacts" / "checkpoints" / run).glob("*"))
        return not here and set(self.store.folders(f"checkpoints/{run}")) == names

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
        clients_forget()
        s3.stop()


def test_checkpoints_live_in_the_store_and_runs_go_on_from_it(site: Site) -> None:
    stack, east, west = site.stack, site.nodes["east"], site.nodes["west"]
    west.change(drained=True)
    saves = {"every_steps": 20, "keep_last": 4}
    run = stack.launch(spec(checkpoint=saves, batch={"prompts_per_step": 8}))
    stack.wait(lambda: trains(stack, run), 90, site.said)

    # kill -9 of the node's worker while it sends; the training goes on, and so does the next worker's sending.
    stack.wait(lambda: list((east.data / "outbox").glob("*")), 60, site.said)
    east.kill_worker()
    east.start()
    stack.call("POST", f"/runs/{run}/pause", {})
    paused = stack.wait_state(run, "paused")
    assert paused["step"] > 0
    stack.wait(lambda: site.all_stored(run), 60, site.said)
    kept = site.checkpoints(run)
    for one in kept:
        there = site.objects(one)
        assert "manifest.json" in there and sum(there.values()) == one["bytes"]
    assert not (stack.data / "artifacts" / "checkpoints").exists(), (
        "nothing passed through the server"
    )

    # It goes on elsewhere from the store.
    east.change(drained=True)
    west.change(drained=False)
    stack.call("POST", f"/runs/{run}/resume", {})
    further = kept[0]["step"] + 30
    stack.wait(lambda: stack.run(run)["step"] >= further, 120, lambda: stack.run(run))
    stack.call("POST", f"/runs/{run}/stop", {})
    done = stack.wait_state(run, "stopped", "finished", "failed", within=120)
    assert (done["state"], done["node"], done["attempt"]) == ("stopped", "west", 2), done
    stack.assert_everything_arrived(run)
    second = west.data / "runs" / run / "attempt-2" / "journal.jsonl"
    lines = [event for event in read_events(second) if event["type"] == "metrics"]
    steps = [line["step"] for line in lines if "loss" in line["values"]]
    assert min(steps) == kept[0]["step"] + 1, "from the newest checkpoint of the first node"

    # What west sent to the server was passed on; only what the keep policy keeps is left, and in the bucket alone.
    stack.wait(lambda: site.settled(run), 60, site.said)
    for one in site.checkpoints(run):
        assert sum(site.objects(one).values()) == one["bytes"]
    health = stack.call("GET", "/health")["artifacts"]
    assert health == {"url": site.store.url, "state": "ok", "waiting": 0}

    # People read it through the server, which has no copy on its disk.
    newest = site.checkpoints(run)[0]
    status, manifest = stack.ask("GET", f"/checkpoints/{newest['id']}/files/manifest.json")
    assert status == 200 and hashlib.sha256(manifest.encode()).hexdigest() == newest["sha256"]

    # An evaluation on east fetches from the store what west had saved.
    east.change(drained=False)
    model = {"name": f"checkpoint:{newest['id']}"}
    measures = {**spec(), "kind": "evaluate", "model": model}
    measures["resources"] = {"labels": ["at=east"]}
    measured = stack.launch(measures)
    assert stack.wait_state(measured, "finished", "failed", within=90)["state"] == "finished"
    fetched = east.data / "fetched" / newest["id"]
    assert (fetched / "manifest.json").read_text() == manifest

    # A wrong byte in the bucket is refused by its file's name.
    key = f"checkpoints/{run}/{newest['step']}-{newest['sha256'][:16]}/model.safetensors"
    (stack.folder / "other").write_bytes(b"x" * (site.store.size(key) or 0))
    site.store.put(stack.folder / "other", key)
    shutil.rmtree(fetched)
    refused = stack.wait_state(stack.launch(measures), "finished", "failed", within=90)
    assert refused["state"] == "failed" and refused["cause"] == "bad-input"
    assert "model.safetensors arrived with SHA-256" in refused["reason"]

    # A deleted run leaves nothing in the bucket.
    stack.call("DELETE", f"/runs/{run}")
    stack.wait(lambda: not site.store.folders(f"checkpoints/{run}"), 60, site.said)

    # No process wrote a credential anywhere that people or other machines read.
    notes = [path for disk in stack.disks for path in (disk / "runs").rglob("*.json*")]
    for path in [*notes, *stack.folder.glob("*.log"), *(stack.data / "logs").glob("*.log")]:
        assert "secret-of-the-tests" not in path.read_text(), path
