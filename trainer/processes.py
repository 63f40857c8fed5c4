"""Names a process by pid and start time, so that a reused pid is never taken for the one meant."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    import signal

CLOCK_STEP = 1.5  # seconds that start times may move when the machine's clock is set
TICK = 0.05  # seconds; the kernel counts in hundredths
UNIX_TIME = 1e9
"""Start times above it are Unix time, as an older version noted them."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ProcessName(NamedTuple):
    """A process that leads its own group."""

    pid: int
    created: float
    """Seconds since the machine booted: setting its clock moves nothing."""
    boot: str = ""
    """Which boot that was; "" where the system has no name for it."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """The name of a live process; a process that is gone already gets a name that fits none."""
        try:
            return cls(pid, _since_boot(pid), _boot())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0, "none")

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            return self._fits() and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _fits(self) -> bool:
        if self.created > UNIX_TIME:
            return abs(psutil.Process(self.pid).create_time() - self.created) < CLOCK_STEP
        return self.boot in ("", _boot()) and abs(_since_boot(self.pid) - self.created) < TICK

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole group, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


def processes_read(path: Path) -> dict[str, ProcessName]:
    """The processes that host noted: `host`, `trainer` and `ship`, as far as they were started."""
    try:
        noted = json.loads(path.read_text())
        return {
            name: ProcessName(item["pid"], item["created"], item.get("boot", ""))
            for name, item in noted.items()
        }
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
                found.append(ProcessName.of(process.pid))
    return sorted(found, key=lambda name: name.created)


def _since_boot(pid: int) -> float:
    """When a process began, in seconds since the boot. Raises psutil.NoSuchProcess."""
    while True:
        before = psutil.boot_time()
        # A new object each time: psutil keeps what it has read.
        created = psutil.Process(pid).create_time()
        # Both move when the clock is set, and it may be set in between.
        if psutil.boot_time() == before:
            return created - before


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
