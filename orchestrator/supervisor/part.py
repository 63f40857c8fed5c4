"""One part of Anneal as a process group of its own, and the database behind the same four verbs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Protocol

import psutil

from orchestrator import postgres
from orchestrator.data_dir import PROJECT_DIR
from orchestrator.supervisor.logs import rotate
from orchestrator.supervisor.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.supervisor.standstill import Sign


class Part(Protocol):
    """What the supervisor keeps up."""

    name: str
    log: Path

    def start(self) -> None:
        """Start it; returns before it is healthy."""

    def identity(self) -> Identity | None:
        """Return its main process while that lives."""

    def death(self) -> str | None:
        """Return how it ended, in words; None while it runs."""

    def hang(self, now: float) -> str:
        """Return why it stands still though it lives, in words; "" while it does not."""

    def hang_forget(self, now: float) -> None:
        """Count its signs of life anew."""

    def kill(self) -> None:
        """End it at once with everything in its group."""

    def stop(self, within: float) -> None:
        """End it with everything it started in its group."""


class ProcessPart:
    """A command, run in a process group of its own, writing to its log."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        log: Path,
        signs: Sequence[Sign] = (),
    ) -> None:
        self.name = name
        self.signs = signs
        self.command = command
        self.env = env
        self.log = log
        self.child: subprocess.Popen[bytes] | None = None
        self.started: Identity | None = None

    def start(self) -> None:
        """Start the command; its group outlives neither `stop` nor the next start."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.log)
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT_DIR,
                env=self.env,
                start_new_session=True,
            )
        self.started = Identity.of(self.child.pid)
        self.hang_forget(time.monotonic())

    def hang(self, now: float) -> str:
        """Return the first reason why it stands still, or ""."""
        # Each one is asked each time: they count their own looks.
        found = [sign.misses(now) for sign in self.signs]
        return next(filter(None, found), "")

    def hang_forget(self, now: float) -> None:
        """Count its signs of life anew."""
        for sign in self.signs:
            sign.began(now)

    def kill(self) -> None:
        """End the group at once; `death` tells of it."""
        if self.child is not None:
            self._signal(signal.SIGKILL)

    def identity(self) -> Identity | None:
        """Return the main process since its last start."""
        return self.started if self.child is not None else None

    def death(self) -> str | None:
        """Return how the command ended, and end what it left in its group."""
        assert self.child is not None
        # Look without reaping: until then the pid, which names the group, cannot be reused.
        if not os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return None
        self._signal(signal.SIGKILL)
        code = self.child.wait()
        self.child = None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def stop(self, within: float) -> None:
        """End the group: TERM, and KILL for whoever is left after `within` seconds."""
        if self.child is None:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + within
        while self.death() is None:
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)


class DatabasePart:
    """The embedded database: perhaps started by another process than ours."""

    name = "database"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir / "logs" / "database.log"

    def start(self) -> None:
        """Start it and wait until it answers."""
        rotate(self.log)
        postgres.ensure_running(self.data_dir)

    def identity(self) -> Identity | None:
        """Return the postmaster."""
        with contextlib.suppress(psutil.NoSuchProcess):
            pid = postgres.postmaster_pid(self.data_dir)
            return Identity.of(pid) if pid else None
        return None

    def death(self) -> str | None:
        """Say that the postmaster is gone; it need not be our child."""
        return None if postgres.postmaster_pid(self.data_dir) else "no server process"

    def hang(self, now: float) -> str:
        """Never judged: a database that is busy looks like one that stands still."""
        return ""

    def hang_forget(self, now: float) -> None:
        """Nothing is counted."""

    def kill(self) -> None:
        """Never done: PostgreSQL ends in order."""

    def stop(self, within: float) -> None:
        """End every session and stop."""
        postgres.stop(self.data_dir)
