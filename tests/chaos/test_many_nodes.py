"""Three nodes as on other machines, over a real Redis, and once over a real RabbitMQ.

Each is a process of its own with a data directory of its own: what a run needs reaches it by the server's HTTP.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.brokers import RabbitMQ, Redis
from tests.chaos.far_nodes import FarNode
from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec, trains

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow]

NAMES = ("east", "north", "west")


class Site:
    """A server and three far nodes; its own node takes nothing."""

    def __init__(self, broker_url: str) -> None:
        self.stack = Stack()
        self.stack.env["BROKER_URL"] = broker_url
        try:
            self.stack.up()
            (own,) = self.stack.call("GET", "/nodes")["items"]
            self.stack.call("PATCH", f"/nodes/{own['id']}", {"drained": True})
            self.nodes = {name: FarNode(self.stack, name) for name in NAMES}
            for node in self.nodes.values():
                node.start()
        except BaseException:
            self.remove()
            raise

    def launch(self, at: str = "", **more: Any) -> str:
        """Launch a small run, for the node of this name where one is given."""
        labels = {"resources": {"labels": [f"at={at}"]}} if at else {}
        return self.stack.launch(spec(**{"steps": 30, **labels, **more}))

    def finished(self, run_id: str) -> dict[str, Any]:
        """Wait until it has finished; the run."""
        run = self.stack.wait_state(run_id, "finished", "failed", "stopped", within=240)
        assert run["state"] == "finished", (run, self.said())
        return run

    def losses(self, run_id: str) -> list[Any]:
        """Its loss at every step, as the charts show it."""
        path = f"/runs/{run_id}/series?keys=loss&points=5000"
        series = self.stack.call("GET", path)["loss"]
        return list(zip(series["x"], series["y"], strict=True))

    def checkpoints(self, run_id: str) -> list[dict[str, Any]]:
        """Those that are kept, newest first."""
        found: list[dict[str, Any]] = self.stack.call("GET", f"/runs/{run_id}/checkpoints")["items"]
        return found

    def copy(self, checkpoint: dict[str, Any]) -> Path | None:
        """The server's copy, once it counts."""
        folder = self.stack.data / "artifacts" / "checkpoints" / checkpoint["run"]
        place = folder / f"{checkpoint['step']}-{checkpoint['sha256'][:16]}"
        return place if place.is_dir() else None

    def said(self) -> str:
        return self.stack.said() + "".join(node.said() for node in self.nodes.values())

    def remove(self) -> None:
        """Leave nothing behind."""
        for node in getattr(self, "nodes", {}).values():
            if node.process is not None and node.process.poll() is None:
                node.kill_worker()
        self.stack.remove()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    redis = Redis()
    redis.start()
    found = None
    try:
        found = Site(redis.url)
        yield found
    finally:
        if found is not None:
            found.remove()
        redis.kill()


def three_at_once(site: Site) -> None:
    """A run on each node, at the same time; every line of each arrives."""
    runs = {name: site.launch(at=name) for name in NAMES}
    for name, run_id in runs.items():
        assert site.finished(run_id)["node"] == name
        site.stack.assert_everything_arrived(run_id)
        assert (site.nodes[name].data / "runs" / run_id).is_dir()
        assert not (site.stack.data / "runs" / run_id).exists()
    assert not (site.stack.data / "broker" / "messages").exists(), "the filesystem broker was used"


def test_three_nodes_work_at_once_over_redis(site: Site) -> None:
    three_at_once(site)


def test_a_follower_starts_on_another_node_from_what_its_parent_left(site: Site) -> None:
    parent = site.launch(at="east")
    child = site.launch(at="west", model={"name": f"run:{parent}"})
    site.finished(parent)
    assert site.finished(child)["node"] == "west"
    final = next(one for one in site.checkpoints(parent) if one["final"])
    fetched = site.nodes["west"].data / "fetched" / final["id"]
    manifest = (fetched / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == final["sha256"]
    for name, expected in json.loads(manifest)["files"].items():
        assert hashlib.sha256((fetched / name).read_bytes()).hexdigest() == expected, name
    # Nothing is left to bring, and nothing lies about.
    outbox = site.nodes["east"].data / "outbox"
    site.stack.wait(lambda: not list(outbox.iterdir()), 60, "the outbox never got empty")


def test_a_run_that_is_paused_goes_on_elsewhere_as_if_it_had_never_stopped(site: Site) -> None:
    calm = site.launch(at="north", steps=300)
    run = site.launch(steps=300)
    site.stack.wait(lambda: trains(site.stack, run), 90, "it does not train")
    site.stack.call("POST", f"/runs/{run}/pause", {})
    paused = site.stack.wait_state(run, "paused")
    first = site.nodes[paused["node"]]
    assert 0 < paused["step"] < 300, "it was too quick to be paused"
    first.change(drained=True)
    try:
        site.stack.call("POST", f"/runs/{run}/resume", {})
        done = site.finished(run)
    finally:
        first.change(drained=False)
    assert done["node"] != first.name and done["attempt"] == 2
    site.finished(calm)
    site.stack.assert_everything_arrived(run)
    assert site.losses(run) == site.losses(calm)


def test_a_node_that_loses_its_power_loses_no_more_than_what_was_never_copied(site: Site) -> None:
    # Seldom enough saved that a copy is on its way before the keep policy removes the checkpoint.
    saves = {"every_steps": 100, "keep_last": 3}
    run = site.launch(steps=100_000, batch={"prompts_per_step": 8}, checkpoint=saves)
    site.stack.wait(lambda: trains(site.stack, run), 90, "it does not train")
    first = site.nodes[site.stack.run(run)["node"]]
    site.stack.wait(
        lambda: any(site.copy(one) for one in site.checkpoints(run)), 90, lambda: site.said()
    )
    first.power_off()
    site.stack.wait(lambda: site.stack.run(run)["attempt"] == 2, 180, lambda: site.stack.run(run))
    moved = site.stack.wait_state(run, "running", "finished", "failed")
    assert moved["node"] != first.name, moved
    events = site.stack.call("GET", f"/runs/{run}/events")["items"]
    assert any("node-lost" in json.dumps(event) for event in events)
    second = site.nodes[moved["node"]].data / "runs" / run
    # It went on from a copy, and did not begin anew.
    steps = [int(path.name.partition("-")[2]) for path in (second / "checkpoints").glob("step-*")]
    assert steps and min(steps) > 0
    site.stack.call("POST", f"/runs/{run}/stop", {})
    site.stack.wait_state(run, "stopped", "finished")
    first.start()


def test_a_worker_that_is_killed_while_it_sends_goes_on_with_the_rest(site: Site) -> None:
    node = site.nodes["west"]
    run = site.launch(at="west", steps=40, checkpoint={"every_steps": 2, "keep_last": 100})
    outbox = node.data / "outbox"
    for _ in range(3):
        site.stack.wait(lambda: any(outbox.glob("*")), 90, "nothing is sent")
        node.kill_worker()
        node.start()
    site.finished(run)
    kept = site.checkpoints(run)
    assert len(kept) > 10
    site.stack.wait(lambda: all(site.copy(one) for one in kept), 180, lambda: site.said())
    for one in kept:
        folder = site.copy(one)
        assert folder is not None
        manifest = (folder / "manifest.json").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == one["sha256"]
        for name, expected in json.loads(manifest)["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name


def test_three_nodes_work_at_once_over_rabbitmq() -> None:
    rabbit = RabbitMQ()
    found = None
    try:
        rabbit.start()
        found = Site(rabbit.url)
        three_at_once(found)
    finally:
        if found is not None:
            found.remove()
        rabbit.kill()
