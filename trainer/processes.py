"""Names a process by pid and start time, so that a reused pid is never taken for the one meant."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    import signal
    from pathlib import Path

CLOCK_STEP = 1.5  # seconds that start times may move when the machine's clock is set


class ProcessName(NamedTuple):
    """A process that leads its own group."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """The name of a live process; a process that is gone already gets a name that fits none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_STEP
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole group, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


def processes_read(path: Path) -> dict[str, ProcessName]:
    """The processes that host noted: `host`, `trainer` and `ship`, as far as they were started."""
    try:
        noted = json.loads(path.read_text())
        return {name: ProcessName(item["pid"], item["created"]) for name, item in noted.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def processes_write(path: Path, processes: dict[str, ProcessName]) -> None:
    """Note them, so that a restarted node finds them again."""
    write_atomic(path, json.dumps({name: one._asdict() for name, one in processes.items()}))


def processes_with(variable: str, value: str) -> list[ProcessName]:
    """The live processes that have `variable` = `value` in their environment, oldest first."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value:
                found.append(ProcessName(process.pid, process.create_time()))
    return sorted(found, key=lambda name: name.created)
