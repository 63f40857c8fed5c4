"""Looks at what is really there, and at what is shown, several times a second; asks no code of the product.

Processes are told from /proc by their command lines, states from REST.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.chaos.stack import Stack

EVERY = 0.2
"""Seconds between two looks."""
ROLES = {"trainer": "trainer", "trainer.host": "host", "trainer.ship": "ship"}


class Seen(NamedTuple):
    """A process of an attempt."""

    pid: int
    started: int
    """Clock ticks since boot: tells a pid that came round again."""
    role: str
    run: str
    attempt: int
    disk: str
    """The data directory that it works in."""


@dataclass(frozen=True)
class Moment:
    """What was so at one moment."""

    time: float
    """time.monotonic"""
    processes: dict[Seen, str]
    """With the letter of its state in /proc: T is stopped."""
    shown: dict[str, dict[str, Any]] | None
    """Runs as REST shows them, by id; None while it does not answer."""
    machines: dict[str, dict[str, Any]]
    """Of each data directory: `open`, `latency`, `works` (T: its worker is stopped), `full`."""


@dataclass
class Witness:
    """Keeps every moment until it is asked."""

    stack: Stack
    machines: dict[str, Any] = field(default_factory=dict)
    """`Machine`s by their data directory."""
    moments: list[Moment] = field(default_factory=list)
    ever: dict[tuple[str, int], set[Seen]] = field(default_factory=dict)
    """Every trainer process that was ever seen, by run and attempt."""
    first: dict[tuple[str, int], float] = field(default_factory=dict)
    """When the first of them was seen, in seconds of the true wall clock."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each question was asked, and the seconds until its answer: how busy the machine is."""
    deaf_until: float = 0.0
    """Until when the server cannot hear, because some lane does something to it (time.monotonic)."""
    _known: dict[tuple[int, int], Seen | None] = field(default_factory=dict)
    _shown: tuple[float, dict[str, dict[str, Any]] | None] = (0.0, None)
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to look."""
        for work in (self._look_on, self._ask_on):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._done.set()

    def since(self, begun: float) -> list[Moment]:
        """The moments from `begun` on."""
        return [one for one in self.moments if one.time >= begun]

    def processes(self) -> dict[Seen, str]:
        """What runs now."""
        return self._processes()

    def pids_under(self, disk: Path) -> list[int]:
        """The processes of all attempts on a disk."""
        return [one.pid for one in self._processes() if one.disk == str(disk)]

    def slowest(self, begun: float) -> float:
        """Seconds of the slowest answer since then."""
        return max((took for asked, took in self.answers if asked >= begun), default=0.0)

    def _look_on(self) -> None:
        while not self._done.wait(EVERY):
            asked, shown = self._shown
            now = time.monotonic()
            fresh = shown if now - asked < 1.0 else None
            found = self._processes()
            for one in found:
                if one.role == "trainer":
                    self.ever.setdefault((one.run, one.attempt), set()).add(one)
                    self.first.setdefault((one.run, one.attempt), time.time())
            machines = {disk: _machine(machine) for disk, machine in self.machines.items()}
            for machine in machines.values():
                machine["open"] = machine["open"] and now > self.deaf_until
            self.moments.append(Moment(now, found, fresh, machines))

    def _ask_on(self) -> None:
        while not self._done.wait(EVERY):
            begun = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                status, text = self.stack.ask("GET", "/runs?per_page=100", timeout=2.5)
                if status == 200:
                    items = json.loads(text)["items"]
                    self._shown = time.monotonic(), {one["id"]: one for one in items}
                    self.answers.append((begun, time.monotonic() - begun))

    def _processes(self) -> dict[Seen, str]:
        found: dict[Seen, str] = {}
        parents: dict[Seen, int] = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                key = int(entry.name), int(stat[19])
                if key not in self._known or self._is_young(key[1]):
                    self._known[key] = self._tell(*key)
                told = self._known[key]
                if told is not None and stat[0] != "Z":
                    found[told] = stat[0]
                    parents[told] = int(stat[1])
        # A child that has not begun its own program yet looks like its parent.
        names = {one.pid: one[2:] for one in found}
        return {one: at for one, at in found.items() if names.get(parents[one]) != one[2:]}

    @staticmethod
    def _is_young(started: int) -> bool:
        """Whether it may still be about to begin another program."""
        return time.monotonic() - started / os.sysconf("SC_CLK_TCK") < 5.0

    def _tell(self, pid: int, started: int) -> Seen | None:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if len(line) < 4 or line[1] != "-m" or line[2] not in ROLES:
            return None
        run = next((word for word in line if word.startswith(str(self.stack.folder))), "")
        if not run or "--attempt" not in line:
            return None
        disk, _, name = run.rpartition("/runs/")
        attempt = int(line[line.index("--attempt") + 1])
        return Seen(pid, started, ROLES[line[2]], name, attempt, disk)


def _machine(machine: Any) -> dict[str, Any]:
    letter = ""
    if machine.works():
        with contextlib.suppress(OSError):
            letter = (
                Path(f"/proc/{machine.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            )
    return {
        "name": machine.name,
        "open": not machine.road.cut,
        "latency": machine.road.latency,
        "works": letter,
        "full": (machine.data / "filler").exists(),
    }
