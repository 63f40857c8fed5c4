"""What is done to a run: each kind of fault, orders of people, and their healing."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

from trainer.events import TERMINAL
from trainer.journal import last_event

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.lane import Lane, Result
    from tests.chaos.machine import Machine
    from tests.chaos.scenario import Fault
    from trainer.rundir import AttemptDir

PARTS = frozenset({"web", "control", "database"})
DEAF = frozenset({"web", "database", "backend"})
BACK_WITHIN = 5.0
"""Seconds: ship waits for an answer for 4 s here, and for 1 s until it connects again."""
CUT_FOR = 3.0
SOON = 4
"""Steps that a run may go on when it is to finish."""
STUTTER = (0.3, 0.2)
"""Seconds for which a slow web process stands still, and works."""


class Deeds:
    """Of one scenario."""

    def __init__(self, lane: Lane, result: Result, chance: random.Random) -> None:
        self.lane, self.result, self.chance = lane, result, chance
        self.arena, self.stack, self.witness = lane.arena, lane.stack, lane.witness
        self.wanted = "run"
        self.disk_was_full = False
        self._timers: list[tuple[threading.Timer, float]] = []
        self._hung: list[int] = []
        self._down: set[Machine] = set()

    @property
    def run(self) -> str:
        return self.result.run

    def say(self, what: str) -> None:
        """Note it."""
        self.result.said.append(f"{time.monotonic() - self.result.begun:6.1f} {what}")

    def do(self, fault: Fault) -> None:
        """Do it now; what lasts is healed by a timer, if ever."""
        self.say(str(fault))
        if fault.victim in DEAF:
            # It hits every lane; ships find their way back within a few seconds.
            until = time.monotonic() + fault.seconds + BACK_WITHIN
            self.witness.deaf_until = max(self.witness.deaf_until, until)
        deed: Callable[[Fault], None] = getattr(self, f"_{fault.kind}")
        deed(fault)

    def machine(self) -> Machine | None:
        """The machine that the run is on, or was on last."""
        name = self.lane.shown(self.run)["node"]
        return next((one for one in self.lane.machines if one.name == name), None)

    def _somewhere(self) -> Machine:
        return self.machine() or self.lane.machines[0]

    def _pid(self, victim: str) -> int | None:
        """The process of the newest attempt, or of the server."""
        if victim == "node":
            machine = self._somewhere()
            return machine.process.pid if machine.works() and machine.process else None
        if victim == "backend":
            postmaster = self.stack.notes.get("parts", {}).get("database")
            found = psutil.Process(postmaster[0]).children() if postmaster else []
            clients = [one.pid for one in found if "[local]" in _title(one)]
            return self.chance.choice(sorted(clients)) if clients else None
        if victim in PARTS:
            part = self.stack.notes.get("parts", {}).get(victim)
            return part[0] if part else None
        mine = [
            one for one in self.witness.processes() if (one.run, one.role) == (self.run, victim)
        ]
        return max(mine, key=lambda one: (one.attempt, one.started)).pid if mine else None

    # --- faults ----------------------------------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        if fault.victim in PARTS:
            self.arena.part_kill(fault.victim)
        elif fault.victim == "node":
            machine = self._somewhere()
            if machine.works():
                machine.kill_worker()
            # As a service manager does.
            self._later(1.0, lambda: self._boot(machine))
            self._down.add(machine)
        elif pid := self._pid(fault.victim):
            _signal(pid, signal.SIGKILL)

    def _hang(self, fault: Fault) -> None:
        if pid := self._pid(fault.victim):
            _signal(pid, signal.SIGSTOP)
            self._hung.append(pid)
            if not fault.never_heals:
                self._later(fault.seconds, lambda: _signal(pid, signal.SIGCONT))

    def _cut(self, fault: Fault) -> None:
        machine = self._somewhere()
        machine.road.close_road(fault.victim)
        self._later(fault.seconds, machine.road.open_road)

    def cut_briefly(self, machine: Machine) -> None:
        """So that an end stays unknown for a moment."""
        machine.road.close_road("silent")
        self._later(CUT_FOR, machine.road.open_road)

    def _clock(self, fault: Fault) -> None:
        self._somewhere().clock_set(fault.size)

    def _disk(self, fault: Fault) -> None:
        machine = self._somewhere()
        self.disk_was_full = True
        machine.fill()
        if not fault.never_heals:
            self._later(fault.seconds, machine.free)

    def _slow(self, fault: Fault) -> None:
        if fault.victim == "road":
            road = self._somewhere().road
            road.latency = fault.size
            self._later(fault.seconds, lambda: setattr(road, "latency", 0.0))
            return
        ending = time.monotonic() + fault.seconds

        def stutter() -> None:
            while time.monotonic() < ending and (pid := self._pid("web")):
                _signal(pid, signal.SIGSTOP)
                time.sleep(STUTTER[0])
                _signal(pid, signal.SIGCONT)
                time.sleep(STUTTER[1])

        self._later(0.0, stutter)

    def _order(self, fault: Fault) -> None:
        shown = self.lane.shown(self.run)
        number = max(1, shown["attempt"])
        node = self._somewhere().name
        times = int(fault.size)
        if fault.victim == "race":
            for machine in self.lane.machines * times:
                threading.Thread(target=self._claim, args=(machine, number), daemon=True).start()
        elif fault.victim == "both":
            for machine in self.lane.machines:
                self.arena.order_send(machine.name, self.run, number, times)
        else:
            number += {"again": 0, "old": -1, "forged": 1}[fault.victim]
            self.arena.order_send(node, self.run, number, times)

    def _claim(self, machine: Machine, number: int) -> None:
        """Whoever wins this race for the machine never starts anything: the run must not stay with it."""
        with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
            status = self.arena.claim(machine, self.run, number)
            if status == 200:
                self.say(f"a client claimed attempt {number} in the name of {machine.name}")

    def _reboot(self, fault: Fault) -> None:
        machine = self._somewhere()
        machine.reboot()
        self._down.add(machine)
        if not fault.never_heals:
            self._later(fault.seconds, lambda: self._boot(machine))

    def _user(self, fault: Fault) -> None:
        if fault.victim == "priority":
            self.stack.call("PATCH", f"/runs/{self.run}", {"priority": self.chance.randint(-5, 5)})
        elif fault.victim == "resume":
            self.ask("pause")
            self.ask("resume")
        else:
            self.ask(fault.victim)

    # --- people ----------------------------------------------------------------------------------

    def ask(self, verb: str) -> None:
        """Stop, pause or resume, as a person who does not know what happens."""
        for _ in range(60):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
                status, text = self.stack.ask("POST", f"/runs/{self.run}/{verb}", {})
                if status < 500:
                    self.say(f"{verb}: {status}" + (f" {text}" if status >= 400 else ""))
                    if status < 400 and self.wanted != "stop":
                        self.wanted = {"resume": "run"}.get(verb, verb)
                    return
            time.sleep(0.5)
        self.result.wrong.append(f"nobody answers to {verb}")

    def finish_soon(self) -> None:
        """Let it end a few steps from here."""
        shown = self.lane.shown(self.run)
        if shown["state"] not in ("finished", "failed", "stopped") and self.wanted == "run":
            step = shown["step"] + SOON
            with contextlib.suppress(AssertionError):
                self.stack.call("PATCH", f"/runs/{self.run}", {"knobs": {"budget.max_steps": step}})
                self.say(f"to end at step {step}")

    def knows_its_end(self) -> bool:
        """Whether the trainer was told where it ends."""
        newest = self._newest()
        with contextlib.suppress(OSError):
            return newest is not None and "budget.max_steps" in newest.control.read_text()
        return False

    def over(self) -> bool:
        """Whether the newest attempt on a disk has ended."""
        newest = self._newest()
        word = (last_event(newest.journal("host")) if newest else None) or {}
        return word.get("type") == "status" and word.get("state") in TERMINAL

    def _newest(self) -> AttemptDir | None:
        attempts = self.stack.attempts(self.run)
        return max(attempts, key=lambda one: one.number, default=None)

    # --- healing ---------------------------------------------------------------------------------

    def _later(self, seconds: float, act: Callable[[], Any]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self._timers.append((timer, time.monotonic() + seconds))
        timer.start()

    def heal_in_time(self) -> None:
        """Wait until everything that lasts for a while is over."""
        for timer, _ in self._timers:
            timer.join()
        self._timers.clear()

    def heal_hangs(self) -> None:
        """Let everybody go on."""
        for pid in self._hung:
            _signal(pid, signal.SIGCONT)
        self._hung.clear()

    def _boot(self, machine: Machine) -> None:
        with self.arena.booting:
            if not machine.works():
                machine.boot()
            self._down.discard(machine)

    def heal_all(self) -> None:
        """Nothing is broken any more."""
        self.heal_in_time()
        self.heal_hangs()
        for machine in self.lane.machines:
            machine.heal()
            if not machine.works():
                self._boot(machine)

    # --- what must come of it --------------------------------------------------------------------

    def end_is_wrong(self, run: dict[str, Any]) -> list[str]:
        """What is wrong with the end of the run, by what was done to it and what its trainer said."""
        words = [last_event(one.journal("trainer")) or {} for one in self.stack.attempts(self.run)]
        # Its own word: what host writes in its name is what is to be judged.
        finished = any(
            word.get("state") == "finished" and "written_by" not in word.get("data", {})
            for word in words
        )
        state, cause = run["state"], run["cause"]
        good = (
            (state == "finished" and finished)
            or (state == "stopped" and self.wanted == "stop")
            or ((state, cause) == ("failed", "disk") and self.disk_was_full)
        )
        return [] if good else [f"it ended as {state} ({cause}): {run['reason']}"]


def _title(process: psutil.Process) -> str:
    """What it calls itself; "" when it has ended meanwhile: backends come and go."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
