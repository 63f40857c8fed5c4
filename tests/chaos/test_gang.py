"""A run on two machines, each a node process with a data directory of its own; they meet through the server."""

from __future__ import annotations

import json
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.far_nodes import FarNode
from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec, trains
from tests.trainer.engine.support import command
from trainer.children import ATTEMPT_VARIABLE
from trainer.journal import read_events
from trainer.processes import processes_read, processes_with
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.processes import ProcessName

pytestmark = [pytest.mark.slow]

NAMES = ("east", "west")
STEPS = 12
"""The last bits of sums, which depend on who adds what first, grow with every step."""


def small(nodes: int, **more: Any) -> dict[str, Any]:
    """A run whose loss falls from the first step on."""
    learns = {"objective": {"type": "sft"}, "optimizer": {"lr": 3e-3}}
    return spec(**{"steps": STEPS, "resources": {"nodes": nodes, "gpus": 0}, **learns, **more})


class Site:
    """A server whose own node takes nothing, and two others."""

    def __init__(self) -> None:
        self.stack = Stack()
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

    def launch(self, **more: Any) -> str:
        """Launch a small run on both machines."""
        return self.stack.launch(small(nodes=2, **more), max_restarts=2)

    def finished(self, run_id: str) -> dict[str, Any]:
        """Wait until it has finished; the run."""
        run = self.stack.wait_state(run_id, "finished", "failed", "stopped", within=120)
        assert run["state"] == "finished", (run, self.said())
        return run

    def curve(self, run_id: str, key: str) -> dict[int, float]:
        """A metric at every step, as the charts show it."""
        series = self.stack.call("GET", f"/runs/{run_id}/series?keys={key}&points=5000")[key]
        return dict(zip(series["x"], series["y"], strict=True))

    def processes(self, run_id: str, name: str) -> list[ProcessName]:
        """Everything that works for the run on one machine."""
        run = RunDir(self.nodes[name].data / "runs" / run_id)
        found: list[ProcessName] = []
        for attempt in map(run.attempt, run.attempts()):
            found += processes_with(ATTEMPT_VARIABLE, str(attempt.path.resolve()))
            found += processes_read(attempt.processes).values()
        return [process for process in found if process.alive()]

    def trainer(self, run_id: str, name: str) -> ProcessName:
        """What host started on one machine: the trainer, or its deputy."""
        run = RunDir(self.nodes[name].data / "runs" / run_id)
        return processes_read(run.attempt(run.attempts()[-1]).processes)["trainer"]

    def nothing_left(self, run_id: str) -> None:
        """No process of the run, and no slot taken."""
        for name in NAMES:
            left = partial(self.processes, run_id, name)
            self.stack.wait(lambda left=left: not left(), 30, f"{name} works on")
            assert self.nodes[name].shown()["busy"] == 0

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
    found = Site()
    try:
        yield found
    finally:
        found.remove()


def test_two_machines_train_one_run_as_one_process_does(site: Site, tmp_path: Path) -> None:
    gang = site.launch()
    run = site.finished(gang)
    assert sorted(run["nodes"]) == list(NAMES)
    path, alone = tmp_path / "spec.json", RunDir(tmp_path / "alone")
    path.write_text(json.dumps(small(nodes=1)))
    assert command(["run", str(path), "--dir", str(alone.path)]) == 0
    events = list(read_events(alone.attempt(1).journal("trainer")))
    site.stack.assert_everything_arrived(gang)
    for key in ("loss", "grad_norm"):
        told = [event for event in events if key in event.get("values", {})]
        one = {event["step"]: event["values"][key] for event in told}
        assert len(one) == STEPS and (key != "loss" or one[STEPS] < 0.95 * one[1]), one
        assert site.curve(gang, key) == pytest.approx(one, rel=1e-6), key
    site.nothing_left(gang)
    # The place where they met is in no event that people read.
    assert "meeting" not in str(site.stack.call("GET", f"/runs/{gang}/events"))


def test_a_gang_that_loses_a_machine_starts_again_from_its_checkpoint(site: Site) -> None:
    """Killed is the trainer of the first machine, of which the other one hears by its line alone."""
    # Seldom enough saved that a copy is on its way before the keep policy removes the checkpoint.
    saves = {"every_steps": 100, "keep_last": 3}
    gang = site.launch(steps=1_000_000, checkpoint=saves)
    site.stack.wait(lambda: trains(site.stack, gang), 60, lambda: site.said())
    for node in site.nodes.values():
        shown = node.shown()
        assert shown["busy"] == 1 and shown["runs"][0]["id"] == gang
    first = site.stack.run(gang)["nodes"][0]
    # One checkpoint at least is there, from which the next attempt goes on.
    site.stack.wait(lambda: site.stack.call("GET", f"/runs/{gang}/checkpoints")["items"], 60)
    site.trainer(gang, first).signal(signal.SIGKILL, group=True)
    site.stack.wait(
        lambda: (now := site.stack.run(gang))["attempt"] == 2 and now["state"] == "running",
        60,
        lambda: f"{site.stack.run(gang)}\n{site.said()}",
    )
    step = site.stack.run(gang)["step"] + 30
    site.stack.call("PATCH", f"/runs/{gang}", {"knobs": {"budget.max_steps": step}})
    run = site.finished(gang)
    assert (run["attempt"], run["restarts"]) == (2, 1)
    site.stack.assert_everything_arrived(gang)
    site.nothing_left(gang)
    events = site.stack.call("GET", f"/runs/{gang}/events")["items"]
    began = {
        event["attempt"]: event["data"]["data"]["resumed_from"]
        for event in events
        if "resumed_from" in (event["data"].get("data") or {})
    }
    assert began[1] == "" and began[2].startswith("step-"), began
