"""Name processes so that a reused pid is never taken for the one we started, and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FAMILY = "ANNEAL_UP"
"""Environment variable that every process started below one DATA's `up` inherits."""

FAMILY_ROUNDS = 5
CLOCK_STEP = 1.5  # seconds that start times may move when the machine's clock is set


class Identity(NamedTuple):
    """A process: pids come round again, a pid with its start time does not."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Return the identity of a live process."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process while it lives, or None when the pid is free or somebody else's."""
        try:
            found = psutil.Process(self.pid)
            is_same = abs(found.create_time() - self.created) < CLOCK_STEP
            return found if is_same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def family(token: str) -> Iterator[psutil.Process]:
    """Yield the live processes that inherited `token`, ourselves left out."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = process.pid != os.getpid() and process.environ().get(FAMILY) == token
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def in_groups(processes: Iterator[psutil.Process], groups: Collection[int]) -> list[psutil.Process]:
    """Keep the processes whose group is one of `groups`."""
    kept = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) in groups:
                kept.append(process)
    return kept


def end(processes: Collection[psutil.Process], within: float) -> None:
    """Ask processes to end, and kill those that have not after `within` seconds."""
    for sent, patience in ((signal.SIGTERM, within), (signal.SIGKILL, 5.0)):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
        deadline = time.monotonic() + patience
        while alive(processes) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not alive(processes):
            return


def family_end(token: str, within: float) -> None:
    """End the whole family; a member may start another one while it is asked to end."""
    for _ in range(FAMILY_ROUNDS):
        members = list(family(token))
        if not members:
            return
        end(members, within)


def alive(processes: Collection[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; a zombie does not."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running
