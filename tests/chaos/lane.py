"""A lane: two machines on which one scenario after the other is carried out, and what came of each."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.deeds import Deeds
from tests.chaos.oracle import Patience, path_breaks, views_of, violations
from tests.chaos.test_kills import spec
from trainer.journal import last_event, read_events
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from tests.chaos.arena import Arena
    from tests.chaos.machine import Machine
    from tests.chaos.scenario import Scenario

ENDS = ("finished", "failed", "stopped")
MOMENT_WITHIN = 60.0
"""Seconds after which a fault no longer waits for its moment: the run may never come to it."""
END_WITHIN = 150.0
SETTLED_WITHIN = 60.0
LOOK_EVERY = 0.5
ENDLESS = 1_000_000


@dataclass
class Result:
    """What came of a scenario."""

    scenario: Scenario
    run: str = ""
    begun: float = 0.0
    said: list[str] = field(default_factory=list)
    """What was done, with the seconds since the beginning."""
    wrong: list[str] = field(default_factory=list)
    ended: str = ""
    attempts: int = 0
    missed: int = 0
    """Faults whose moment did not come."""
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.scenario}", f"run {self.run}: {self.ended}, {self.attempts} attempts"]
        lines += [f"  {line}" for line in self.said]
        return "\n".join([*lines, *(f"WRONG: {one}" for one in self.wrong)])


class Lane:
    """Two machines of its own."""

    def __init__(self, arena: Arena, name: str, machines: list[Machine]) -> None:
        self.arena, self.name, self.machines = arena, name, machines
        self.stack, self.witness = arena.stack, arena.witness

    def carry_out(self, scenario: Scenario) -> Result:
        """Do all of it to a new run, and judge."""
        result = Result(scenario, begun=time.monotonic())
        deeds = Deeds(self, result, random.Random(scenario.seed))
        try:
            raw = spec(ENDLESS, resources={"labels": [f"lane={self.name}"]})
            raw |= {"rewards": [{"type": "slow-match"}], "evaluation": {"every_steps": 6}}
            raw |= {"checkpoint": {"every_steps": 5}, "name": f"chaos-{scenario.seed}"}
            result.run = self.stack.launch(raw, max_restarts=100)
            deeds.say(f"launched {result.run}")
            for fault in scenario.faults:
                if self._is("paused", deeds) and fault.moment != "pausing":
                    deeds.ask("resume")
                self._await(fault.moment, deeds)
                time.sleep(fault.wait)
                deeds.do(fault)
            self._end(scenario, deeds)
            self._judge(deeds)
        except Exception as error:
            result.wrong.append(f"the harness failed: {type(error).__name__}: {error}")
        finally:
            result.seconds = time.monotonic() - result.begun
            self._tidy(deeds)
        if result.wrong:
            self.arena.keep(result, self)
        return result

    # --- when ------------------------------------------------------------------------------------

    def shown(self, run: str) -> dict[str, Any]:
        """The run as REST shows it."""
        return self.stack.run(run)

    def _await(self, moment: str, deeds: Deeds) -> None:
        """Wait until the run is at that moment of its life."""
        if moment in ("stopping", "pausing"):
            # Whoever waits for one of them may have asked for the other already.
            if deeds.wanted == "run":
                self._until(lambda: self._is("running", deeds), deeds, "running")
                deeds.ask("stop" if moment == "stopping" else "pause")
            return
        if moment == "undelivered":
            self._undelivered(deeds)
        elif moment != "queued":
            self._until(lambda: self._is_at(moment, deeds.run), deeds, moment)

    def _until(self, so: Any, deeds: Deeds, moment: str) -> None:
        deadline, look = time.monotonic() + MOMENT_WITHIN, 0.0
        while not so():
            now, over = time.monotonic(), False
            if now > look:
                over = self.shown(deeds.run)["state"] in (*ENDS, "paused")
                look = now + LOOK_EVERY
            if over or now > deadline:
                deeds.result.missed += 1
                deeds.say(f"the moment {moment} did not come" + (": it is over" if over else ""))
                return
            time.sleep(0.05)

    def _is(self, state: str, deeds: Deeds) -> bool:
        return bool(self.shown(deeds.run)["state"] == state)

    def _is_at(self, moment: str, run: str) -> bool:
        """By what lies on the disks, which is there before it is shown."""
        attempts = self.stack.attempts(run)
        if moment == "starting":
            return bool(attempts)
        for attempt in attempts:
            if moment == "saving" and any(
                (attempt.path.parent / "checkpoints").glob("step-*.tmp-*")
            ):
                return True
            word = last_event(attempt.journal("trainer")) or {}
            if moment == "training" and word.get("type") == "metrics" and word["step"] > 2:
                return True
            if moment == "evaluating" and word.get("phase") == "eval":
                return True
        return False

    def _undelivered(self, deeds: Deeds) -> None:
        """Let it end while its road is cut, and open the road behind the fault."""
        self._until(lambda: self.shown(deeds.run)["state"] in ("running", *ENDS), deeds, "running")
        deeds.finish_soon()
        machine = deeds.machine()
        self._until(lambda: deeds.knows_its_end() or deeds.over(), deeds, "told to finish")
        if machine is not None and not deeds.over():
            deeds.cut_briefly(machine)
            self._until(deeds.over, deeds, "ended")

    # --- the end ---------------------------------------------------------------------------------

    def _end(self, scenario: Scenario, deeds: Deeds) -> None:
        """Bring the run to its end: what lasts heals first, what never does not."""
        deeds.heal_in_time()
        if any(
            one.victim in ("trainer", "host", "ship", "node")
            for one in scenario.faults
            if one.never_heals
        ):
            # Nobody but us would let it go on; what was shown meanwhile is judged.
            time.sleep(self.arena.patience.lease + self.arena.patience.slack + 2)
            deeds.heal_hangs()
        if deeds.wanted == "pause":
            self._until(
                lambda: self.shown(deeds.run)["state"] in ("paused", *ENDS), deeds, "paused"
            )
            if self.shown(deeds.run)["state"] == "paused":
                deeds.ask("resume")
            deeds.wanted = "run"
        if deeds.wanted == "run":
            self._until(
                lambda: self.shown(deeds.run)["state"] in ("running", *ENDS), deeds, "running again"
            )
            deeds.finish_soon()
        deadline = time.monotonic() + END_WITHIN
        while (state := self.shown(deeds.run)["state"]) not in ENDS:
            if state == "paused" and deeds.wanted == "run":
                deeds.ask("resume")
            if time.monotonic() > deadline:
                deeds.result.wrong.append(f"it came to no end: {self.shown(deeds.run)}")
                break
            time.sleep(0.2)
        run = self.shown(deeds.run)
        deeds.result.ended = f"{run['state']} ({run['cause']}) {run['reason']}"
        deeds.result.attempts = run["attempt"]
        deeds.say(deeds.result.ended)

    def _judge(self, deeds: Deeds) -> None:
        result, run = deeds.result, deeds.run
        result.wrong += deeds.end_is_wrong(self.shown(run))
        deeds.heal_all()
        # The witness looks on until all of it has settled.
        self._settled(deeds)
        moments = self.witness.since(result.begun)
        views = list(views_of(moments, run, result.begun))
        patience = Patience(
            lease=self.arena.patience.lease,
            promise=self._promise(run) + self.arena.grace,
            fence=self.arena.patience.fence,
            # Measured: what answers late has also heard late.
            slack=self.arena.patience.slack + self.witness.slowest(result.begun),
        )
        result.wrong += map(str, violations(views, patience))
        result.wrong += [f"history: {one}" for one in path_breaks(self._history(run))]
        result.wrong += self._trainers_wrong(run)
        try:
            self.stack.assert_everything_arrived(run)
        except AssertionError as error:
            result.wrong.append(f"data: {error}")

    def _settled(self, deeds: Deeds) -> None:
        """No process of the run is left, and its slots are free."""
        for what, so in (
            (
                "a process is left",
                lambda: not any(one.run == deeds.run for one in self.witness.processes()),
            ),
            ("a slot is taken", lambda: not any(m.shown()["busy"] for m in self.machines)),
        ):
            deadline = time.monotonic() + SETTLED_WITHIN
            while not so():
                if time.monotonic() > deadline:
                    left = [one for one in self.witness.processes() if one.run == deeds.run]
                    deeds.result.wrong.append(f"{what}: {left}")
                    break
                time.sleep(0.2)

    def _promise(self, run: str) -> float:
        return max(
            (
                float(event["expect_next_in"])
                for attempt in self.stack.attempts(run)
                for event in read_events(attempt.journal("trainer"))
                if event.get("expect_next_in")
            ),
            default=0.0,
        )

    def _history(self, run: str) -> list[tuple[str, str]]:
        rows = self.stack.query(
            "SELECT data FROM orchestrator_event WHERE run_id = %s AND source = 'server'"
            " AND type = 'status' ORDER BY id",
            run,
        )
        return [(row[0]["was"], row[0]["state"]) for row in rows if "was" in row[0]]

    def _trainers_wrong(self, run: str) -> list[str]:
        """One trainer for each attempt, ever; and no checkpoint that a fenced one made."""
        wrong = [
            f"attempt {number} had {len(seen)} trainers: {seen}"
            for (name, number), seen in self.witness.ever.items()
            if name == run and len(seen) > 1
        ]
        kept = self.stack.call("GET", f"/runs/{run}/checkpoints")["items"]
        for one in kept:
            after = [
                at
                for (name, number), at in self.witness.first.items()
                if name == run and number > one["attempt"]
            ]
            for machine in self.machines:
                folder = RunDir(machine.data / "runs" / run).checkpoint(one["step"])
                with contextlib.suppress(OSError, ValueError):
                    manifest = folder / "manifest.json"
                    same = json.loads(manifest.read_text()).get("attempt") == one["attempt"]
                    if same and after and manifest.stat().st_mtime > min(after) + 1.0:
                        wrong.append(
                            f"fenced attempt {one['attempt']} published step {one['step']}"
                        )
        return wrong

    def _tidy(self, deeds: Deeds) -> None:
        """Whatever happened, the next scenario finds two machines that work and are empty."""
        deeds.heal_all()
        for machine in self.machines:
            machine.clock_set(0.0)
        with contextlib.suppress(AssertionError):
            if deeds.run and self.shown(deeds.run)["state"] not in ENDS:
                self.stack.call("POST", f"/runs/{deeds.run}/stop", {})
        for one in self.witness.processes():
            if one.run == deeds.run:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
