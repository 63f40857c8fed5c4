"""What can be seen of a trainer that says nothing: its processes, its GPUs, its stacks. It judges nothing.

All of it is gathered in a thread of its own: a driver, a file system or a process may keep whoever asks waiting,
and host has a training to look after.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.gpus import gpu_report
from trainer.stacks import bounded, stacks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

GATHER_WITHIN = 45.0
"""Seconds after which host reports what is there."""
BUSY, IDLE_POWER = 90, 0.35
"""A GPU that calls itself busy for this percentage of the time at less than this share of its power limit waits.

Utilisation counts moments in which any kernel was resident, so a collective that waits for a peer shows 100 %: of
a hung training 100 W of 700 W were reported (NVIDIA-NeMo, Speech 9291). Idle cards draw 10 to 20 % of their limit,
spinning ones somewhat more; arithmetic and memory traffic draw half of it and above.
"""
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "in uninterruptible sleep",
    "T": "stopped by a signal",
    "t": "held by a debugger",
    "Z": "a zombie",
    "I": "idle",
}
PROC = Path("/proc")
"""Absent on systems other than Linux: nothing of the processes is seen there."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Evidence:
    """Of one silence: filled while it is gathered."""

    processes: list[dict[str, Any]] = field(default_factory=list)
    gpus: list[dict[str, Any]] = field(default_factory=list)
    gpu_problem: str = ""
    stacks: str = ""
    stacks_problem: str = ""
    complete: bool = False

    def words(self) -> str:
        """What was seen, in sentences."""
        said = [*_process_words(self.processes), *(_gpu_words(gpu) for gpu in self.gpus)]
        if self.gpu_problem:
            said.append(self.gpu_problem)
        if not self.stacks:
            why = self.stacks_problem or "they could not be read in time"
            said.append(f"No stacks: {why}")
        return " ".join(f"{sentence.rstrip('.')}." for sentence in said)


class Gathering:
    """Gathers evidence about the process group of `leader` beside everything else."""

    def __init__(
        self,
        leader: int,
        own_stacks: Path,
        before: dict[int, float],
        since: float,
        given: Sequence[int] | None = None,
    ) -> None:
        self.evidence = Evidence()
        self.began = time.monotonic()
        self._leader, self._own = leader, own_stacks
        self._before, self._since, self._given = before, since, given
        self._thread = threading.Thread(target=self._gather, name="evidence", daemon=True)
        self._thread.start()

    def ready(self, now: float) -> bool:
        """Whether all of it is there, or waiting for more is of no use."""
        return not self._thread.is_alive() or now - self.began > GATHER_WITHIN

    def _gather(self) -> None:
        found = self.evidence
        found.processes = processes_of(self._leader, self._before, time.monotonic() - self._since)
        # Other languages' processes have no Python stacks: the leader, and those of its own kind.
        pids = [one["pid"] for one in found.processes if one["python"]]
        found.stacks, found.stacks_problem = stacks_of(pids or [self._leader], self._own)
        # Last: a driver that hangs is what may have stopped the trainer as well.
        report = gpu_report()
        found.gpu_problem = str(report.get("gpu_problem", ""))
        found.gpus = [
            _gpu_seen(gpu)
            for gpu in report["gpus"]
            if self._given is None or gpu["index"] in self._given
        ]
        found.complete = True


def cpu_of(leader: int) -> dict[int, float]:
    """CPU seconds used so far by each process of a group."""
    return {pid: (stat[11] + stat[12]) / _TICKS for pid, _, stat in _group(leader)}


def processes_of(leader: int, before: dict[int, float], seconds: float) -> list[dict[str, Any]]:
    """The processes of a group, its leader first: pid, name, state, `cpu_s` used in the last `seconds` s,
    `rss_mb` and, where the kernel tells, what it waits in."""
    found = []
    for pid, name, stat in _group(leader):
        used = (stat[11] + stat[12]) / _TICKS
        found.append(
            {
                "pid": pid,
                "name": bounded(name)[:64],
                "state": stat[0],
                "cpu_s": round(max(0.0, used - before.get(pid, 0.0)), 2),
                "over_s": round(seconds, 1),
                "rss_mb": round(stat[21] * _PAGE / 2**20, 1),
                "waits_in": _waits_in(pid) if stat[0] in "SD" else "",
                "python": "python" in _exe(pid),
            }
        )
    return sorted(found, key=lambda one: (one["pid"] != leader, one["pid"]))


def _group(leader: int) -> list[tuple[int, str, list[Any]]]:
    """(pid, name, fields of /proc/PID/stat from the state on) of each process of a group."""
    found: list[tuple[int, str, list[Any]]] = []
    if not PROC.is_dir():
        return found
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="backslashreplace")
        except OSError:
            continue
        # The name stands in parentheses and may hold anything, also parentheses.
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, *numbers = rest.split()
        stat: list[Any] = [state, *map(int, numbers)]
        if stat[2] == leader or int(folder.name) == leader:
            found.append((int(folder.name), name, stat))
    return found


def _exe(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def _waits_in(pid: int) -> str:
    try:
        found = Path(f"/proc/{pid}/wchan").read_text().strip()
    except OSError:
        return ""
    return "" if found == "0" else found[:64]


def _process_words(processes: Sequence[dict[str, Any]]) -> list[str]:
    if not processes:
        return ["No process of the trainer was found"]
    said = []
    for one in processes[:4]:
        name = "The trainer's process" if one is processes[0] else f"Its process {one['name']}"
        state = STATES.get(one["state"], f"in the state {one['state']}")
        where = f" in {one['waits_in']}" if one["waits_in"] and one["state"] == "D" else ""
        said.append(
            f"{name} {one['pid']} is {state}{where} and used {one['cpu_s']:.3g} s of CPU in the last "
            f"{one['over_s']:.0f} s"
        )
    if len(processes) > 4:
        said.append(f"{len(processes) - 4} more processes are not told of here")
    return said


def _gpu_seen(gpu: dict[str, Any]) -> dict[str, Any]:
    """A GPU as the alert has it; `waits` when it calls itself busy at idle power."""
    names = ("index", "name", "utilisation", "power", "power_limit", "used", "memory")
    return {name: gpu[name] for name in names} | {"waits": gpu_waits(gpu)}


def gpu_waits(gpu: dict[str, Any]) -> bool:
    """Whether a GPU shows the mark of a collective or kernel that spins: busy at nearly idle power."""
    told = all(gpu.get(name) is not None for name in ("utilisation", "power", "power_limit"))
    if not told or gpu["power_limit"] <= 0:
        return False
    return bool(gpu["utilisation"] >= BUSY and gpu["power"] < IDLE_POWER * gpu["power_limit"])


def _gpu_words(gpu: dict[str, Any]) -> str:
    said = f"GPU {gpu['index']}"
    if gpu["utilisation"] is not None:
        said += f" shows {gpu['utilisation']} %"
    if gpu["power"] is not None:
        limit = "" if gpu["power_limit"] is None else f" of {gpu['power_limit']:.0f} W"
        said += f" at {gpu['power']:.0f} W{limit}"
    if gpu["waits"]:
        return f"{said}: it waits in a collective or a spinning kernel, which is not work"
    return said
