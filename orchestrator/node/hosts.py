"""The hosts on this machine: which live, and what the dead ones left to do."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.data_dir import PROJECT_DIR
from orchestrator.node.checkpoint_fetch import is_checkpoint
from trainer.control import Control
from trainer.disk import disk_bytes, folder_remove, folders_remove, run_folders
from trainer.events import TERMINAL
from trainer.journal import last_event
from trainer.liveness import Watch, hung_after
from trainer.processes import processes_read
from trainer.rundir import RunDir, write_atomic
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.rundir import AttemptDir

log = logging.getLogger(__name__)

YOUNG = TEMPO.host_young
"""Seconds that a new attempt may take until its host has noted itself."""
AGAIN_AFTER = TEMPO.host_again
OF_RUN = ("host", "trainer")


@dataclass
class Hosts:
    """Every attempt in a data directory that has a lease and is not delivered yet."""

    data_dir: Path
    _settled: set[Path] = field(default_factory=set)
    _helped: dict[Path, float] = field(default_factory=dict)
    _watches: dict[tuple[Path, str], Watch] = field(default_factory=dict)
    _hung: dict[Path, float] = field(default_factory=dict)
    """Seconds that a host stood still which was ended for it, until another one takes over."""
    _tended: list[AttemptDir] = field(default_factory=list)
    _met: dict[Path, float] = field(default_factory=dict)
    """When each attempt was first looked at (time.monotonic)."""

    def live(self) -> list[dict[str, Any]]:
        """The attempts whose host lives, as heartbeats name them."""
        return [
            {"run": attempt.path.parent.name, "attempt": attempt.number}
            for attempt in self.live_attempts()
        ]

    def live_attempts(self) -> Iterator[AttemptDir]:
        """The attempts whose host or trainer lives."""
        for attempt in self.open_attempts():
            if _lives(attempt, "host") or _lives(attempt, "trainer"):
                yield attempt

    def open_attempts(self) -> Iterator[AttemptDir]:
        """Attempts that this machine still has something to do for."""
        runs = self.data_dir / "runs"
        for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
            run = RunDir(folder)
            for number in run.attempts():
                attempt = run.attempt(number)
                if attempt.path in self._settled or not attempt.lease.exists():
                    continue
                if (attempt.path / "delivered.json").exists() and not _lives(attempt, "host"):
                    self._settled.add(attempt.path)
                    continue
                yield attempt

    def tend(self, socket_url: str) -> None:
        """Give every attempt whose host died a new one, and every undelivered journal a ship."""
        now = time.monotonic()
        self._tended = list(self.open_attempts())
        for attempt in self._tended:
            self._lease_point(attempt, socket_url)
            # Not by the age of a file: the clock of the wall may have been set.
            met = self._met.setdefault(attempt.path, now)
            young = not attempt.processes.exists() and now - met < YOUNG
            recent = now - self._helped.get(attempt.path, -AGAIN_AFTER) < AGAIN_AFTER
            if young or recent or _lives(attempt, "host"):
                continue
            if not _ended(attempt):
                log.warning("the host of %s is gone; a new one takes over", attempt.path)
                hung = self._hung.pop(attempt.path, 0.0)
                host_start(attempt, ["--adopt", *(["--hung", f"{hung:.1f}"] if hung else [])])
            elif _lives(attempt, "ship"):
                continue
            else:
                log.info("delivering what is left of %s", attempt.path)
                ship_start(attempt)
            self._helped[attempt.path] = now

    def unhang(self) -> None:
        """End a host that stands still, and a ship that no host looks after; `tend` replaces them.

        Called every second or so, so that a node that stood still itself notices that, and blames nobody.
        """
        now = time.monotonic()
        for attempt in self._tended:
            name = "host" if _lives(attempt, "host") else "ship"
            watch = self._watches.setdefault(
                (attempt.path, name), Watch(attempt.alive(name), hung_after())
            )
            process = processes_read(attempt.processes).get(name)
            silent = watch.hangs(now)
            if not silent or process is None or not process.alive():
                continue
            log.warning("%s of %s stands still for %.0f s and is ended", name, attempt.path, silent)
            # Host alone: trainer and ship have groups of their own and go on.
            process.signal(signal.SIGKILL, group=name == "ship")
            watch.again(now)
            if name == "host":
                self._hung[attempt.path] = silent

    def fence(self, run_id: str, attempt: int) -> None:
        """Tell an attempt that a newer one has taken over elsewhere."""
        found = RunDir(self.data_dir / "runs" / run_id).attempt(attempt)
        if found.path.is_dir():
            order = Control("stop", "fenced", "a newer attempt took over")
            if not found.control.exists() or "fenced" not in found.control.read_text():
                order.write(found.control)

    def remove(self, run_id: str, checkpoints: list[str]) -> int | None:
        """Free what a deleted run takes up here; None while a process of it has still to end."""
        run = RunDir(self.data_dir / "runs" / run_id)
        for number in run.attempts():
            attempt = run.attempt(number)
            if _lives(attempt, "host") or _lives(attempt, "trainer"):
                self.fence(run_id, number)
                return None
        return folders_remove(run_folders(self.data_dir, run_id, checkpoints))

    def drop(self, run_id: str, path: str, sha256: str) -> int | None:
        """Remove one checkpoint of a run that has ended; the bytes that went, None while a process of it lives."""
        run = RunDir(self.data_dir / "runs" / run_id)
        lives = (_lives(run.attempt(number), name) for number in run.attempts() for name in OF_RUN)
        if any(lives):
            return None
        folder = run.path / path
        inside = folder.resolve().is_relative_to(run.checkpoints.resolve())
        if not inside or not is_checkpoint(folder, sha256):
            return 0
        freed = disk_bytes(folder)
        folder_remove(folder)
        return freed

    def gpus_taken(self) -> set[int]:
        """Indices of the GPUs that live attempts were given."""
        return {index for given in self.gpus_of().values() for index in given}

    def gpus_of(self) -> dict[str, list[int]]:
        """The GPUs that each live run was given, by index."""
        found: dict[str, list[int]] = {}
        for attempt in self.live_attempts():
            with suppress(OSError, ValueError):
                given = json.loads(attempt.lease.read_text()).get("gpus", [])
                found[attempt.path.parent.name] = given
        return found

    def _lease_point(self, attempt: AttemptDir, socket_url: str) -> None:
        """A server that came back under another address: `ship` reads it when it connects again."""
        with suppress(OSError, ValueError):
            lease = json.loads(attempt.lease.read_text())
            if lease["server"] != socket_url:
                write_atomic(attempt.lease, json.dumps({**lease, "server": socket_url}), 0o600)
                log.info("%s now ships to %s (was %s)", attempt.path, socket_url, lease["server"])


def host_start(
    attempt: AttemptDir, arguments: list[str], env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a host that outlives us: a session of its own, no pipe to anybody."""
    command = [sys.executable, "-m", "trainer.host", "--dir", str(attempt.path.parent)]
    return _detached([*command, "--attempt", str(attempt.number), *arguments], env)


def ship_start(attempt: AttemptDir) -> subprocess.Popen[bytes]:
    """Start a ship for journals that nobody writes any more."""
    command = [sys.executable, "-m", "trainer.ship", "--dir", str(attempt.path.parent)]
    return _detached([*command, "--attempt", str(attempt.number)], None)


def _detached(command: list[str], env: dict[str, str] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT_DIR,
        env=env,
        start_new_session=True,
    )


def is_noted(attempt: AttemptDir) -> bool:
    """Whether a host has written down that it is at work on the attempt."""
    return "host" in processes_read(attempt.processes)


def _lives(attempt: AttemptDir, name: str) -> bool:
    process = processes_read(attempt.processes).get(name)
    return process is not None and process.alive()


def _ended(attempt: AttemptDir) -> bool:
    word = last_event(attempt.journal("host")) or {}
    return word.get("type") == "status" and word.get("state") in TERMINAL
