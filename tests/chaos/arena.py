"""One long-lived server with short settings, and lanes on which scenarios are carried out side by side."""

from __future__ import annotations

import json
import os
import queue
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

import orchestrator.broker  # noqa: F401
from tests.chaos.lane import Lane, Result
from tests.chaos.machine import Machine, shim_build
from tests.chaos.oracle import Patience
from tests.chaos.road import Roads
from tests.chaos.stack import Stack, _opener
from tests.chaos.test_kills import Pace
from tests.chaos.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.scenario import Scenario

LEASE, GRACE = 6.0, 3.0
STOP_GRACE, TERM_GRACE = 4.0, 2.0
SETTINGS = {
    "ANNEAL_LEASE": LEASE,
    "ANNEAL_GRACE": GRACE,
    "ANNEAL_LOST_FOR": 1.0,
    "ANNEAL_HEARTBEAT": 1.5,
    "ANNEAL_SWEEP": 0.5,
    "ANNEAL_SEND_AGAIN": 2.0,
    "ANNEAL_UNCLAIMED": 8.0,
    "ANNEAL_HTTP_TIMEOUT": 4.0,
    "ANNEAL_HOST_YOUNG": 5.0,
    "ANNEAL_HOST_AGAIN": 3.0,
    "ANNEAL_HOST_HEARTBEAT": 1.5,
    "ANNEAL_SHIP_BEAT": 0.5,
    "ANNEAL_SHIP_SILENCE": 4.0,
    "ANNEAL_SHIP_BACKOFF": 1.0,
    "ANNEAL_STOP_GRACE": STOP_GRACE,
    "ANNEAL_TERM_GRACE": TERM_GRACE,
    "ANNEAL_PROMISE": 6.0,
}
REWARD = '''
"""Exact match that takes its time."""

import time
from typing import Literal

from trainer.registry import Answer, Reward


class SlowMatch(Reward):
    """One for the right answer, after a while."""

    type: Literal["slow-match"] = "slow-match"

    def score(self, answer: Answer) -> float | None:
        """Whether the answer is right."""
        time.sleep(0.02)
        return float(answer.text.strip() == str(answer.row.get("answer", "")).strip())
'''


class Arena:
    """From its start to its end; use it in a `with`."""

    def __init__(
        self, lanes: int, logs: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.stack = Stack()
        self.logs = logs or Path(os.environ.get("ANNEAL_CHAOS_LOGS") or tempfile.gettempdir())
        self.patience = Patience(LEASE + GRACE, 0.0, STOP_GRACE + TERM_GRACE)
        self.grace = GRACE
        self.booting = threading.Lock()
        """Starting workers one by one spares the processors."""
        self._pace, self._pacing = Pace(), threading.Lock()
        self.roads = Roads()
        self.witness = Witness(self.stack)
        self.machines: list[Machine] = []
        methods = self.stack.folder / "methods" / "rewards"
        methods.mkdir(parents=True)
        (methods / "slow_match.py").write_text(REWARD)
        self.more = {name: str(value) for name, value in SETTINGS.items()}
        self.more |= {"ANNEAL_METHODS": str(methods.parent), **(env or {})}
        self.stack.env |= self.more
        self.lanes = [self._lane_name(number) for number in range(lanes)]

    @staticmethod
    def _lane_name(number: int) -> str:
        return "abcdefgh"[number]

    def __enter__(self) -> Arena:
        try:
            self.stack.up()
            (own,) = self.stack.call("GET", "/nodes")["items"]
            self.stack.call("PATCH", f"/nodes/{own['id']}", {"drained": True})
            shim = shim_build(self.stack.folder)
            for lane in self.lanes:
                for side in ("east", "west"):
                    name = f"{side}-{lane}"
                    machine = Machine(self.stack, name, lane, self.roads, shim, self.witness)
                    machine.more |= self.more
                    self.machines.append(machine)
                    self.witness.machines[str(machine.data)] = machine
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(Machine.boot, self.machines))
            self.witness.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.witness.stop()
        for machine in self.machines:
            machine.remove()
        self.stack.remove()
        self.roads.close()

    def carry_out(self, scenarios: Iterable[Scenario]) -> list[Result]:
        """Carry them out, as many at a time as there are lanes."""
        waiting: queue.SimpleQueue[Scenario] = queue.SimpleQueue()
        for one in scenarios:
            waiting.put(one)
        results: list[Result] = []

        def work(lane: Lane) -> None:
            while True:
                try:
                    scenario = waiting.get_nowait()
                except queue.Empty:
                    return
                result = lane.carry_out(scenario)
                results.append(result)
                print(f"[{len(results)}] {lane.name} {result.seconds:.0f} s\n{result}", flush=True)

        threads = [
            threading.Thread(
                daemon=True,
                target=work,
                args=(Lane(self, name, [m for m in self.machines if m.lane == name]),),
            )
            for name in self.lanes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def part_kill(self, part: str) -> None:
        """kill -9 of a part of the server, not so often that `up` gives it up."""
        with self._pacing:
            self._pace.wait(part)
            self.stack.kill_part(part)

    def order_send(self, node: str, run: str, attempt: int, times: int) -> None:
        """Put an order into a node's queue, as a broker that delivers twice or anybody who may write there."""
        folder = self.stack.data / "broker"
        app = Celery("chaos", broker="filesystem://")
        app.conf.broker_transport_options = {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
        }
        for _ in range(times):
            app.send_task(
                "orchestrator.tasks.node_launch",
                args=[run, attempt],
                queue=f"node.{node}",
                ignore_result=True,
            )

    def claim(self, machine: Machine, run: str, attempt: int) -> int:
        """Claim in the name of a node; the status of the answer."""
        request = urllib.request.Request(
            f"{self.stack.notes['url']}api/claims",
            method="POST",
            data=json.dumps({"run": run, "attempt": attempt}).encode(),
            headers={
                "Authorization": f"Bearer {machine._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with _opener.open(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def keep(self, result: Result, lane: Lane) -> None:
        """Keep everything that tells why a scenario went wrong."""
        folder = self.logs / f"anneal-scenario-{result.scenario.seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shown, lines = None, []
        for moment in self.witness.since(result.begun):
            run = (moment.shown or {}).get(result.run)
            found = sorted(
                f"{one.role}-{one.attempt}:{letter}@{Path(one.disk).name}"
                for one, letter in moment.processes.items()
                if one.run == result.run
            )
            what = (
                {key: run[key] for key in ("state", "attempt", "node", "reason")} if run else None
            )
            roads = {
                m["name"]: (m["open"], m["works"], m["full"])
                for m in moment.machines.values()
                if m["name"].endswith(lane.name)
            }
            if (now := (what, found, roads)) != shown:
                shown = now
                lines.append(f"{moment.time - result.begun:7.1f} {what} {' '.join(found)} {roads}")
        (folder / "timeline.txt").write_text(f"{result}\n\n" + "\n".join(lines))
        for attempt in self.stack.attempts(result.run):
            disk = attempt.path.parents[2].name
            for name in ("journal.jsonl", "host.jsonl", "ship.log", "log.txt", "control.json"):
                if (attempt.path / name).exists():
                    shutil.copy(attempt.path / name, folder / f"{disk}-{attempt.path.name}-{name}")
        for machine in lane.machines:
            (folder / f"{machine.name}.log").write_text(machine.said())
        (folder / "server.log").write_text(self.stack.said())
