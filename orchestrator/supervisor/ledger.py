"""What one `up` notes under DATA: that it lives, and which processes are its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from typing import IO, TYPE_CHECKING, Any

from orchestrator import postgres
from orchestrator.data_dir import private_write
from orchestrator.supervisor.processes import Identity, end, family, in_groups

if TYPE_CHECKING:
    from pathlib import Path

    import psutil


class AlreadyUp(ValueError):
    """Another `up` holds this DATA."""


class Ledger:
    """The lock `up.lock`, held while we live, and the notes in `up.json`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / "up.json"
        self.url = ""
        # The same for every `up` of this DATA: a later one knows the trainings of an earlier one.
        self.token = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
        self.parts: dict[str, Identity] = {}
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Become the one `up` of this DATA; raises `AlreadyUp` naming the other."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        lock = (self.data_dir / "up.lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            other = self.notes()
            raise AlreadyUp(
                f"Anneal is already up for {self.data_dir} at {other.get('url') or 'its start'} "
                f"(process {other.get('pid', 'unknown')}). Use it, stop it, or name another "
                "--data-dir."
            ) from None
        # Held open: the kernel drops the lock whatever way this process ends.
        self._lock = lock

    def leftovers(self) -> list[psutil.Process]:
        """Return processes of the parts that an `up` before us left, if it was killed.

        Trainings are not among them: each has a group of its own.
        """
        notes = self.notes()
        if not notes:
            return []
        parts = [Identity(*part) for part in notes["parts"].values()]
        leaders = [found for part in parts if (found := part.process())]
        followers = in_groups(family(self.token), {part.pid for part in parts})
        return list({process.pid: process for process in [*leaders, *followers]}.values())

    def note(self, name: str, identity: Identity | None) -> None:
        """Remember that a part runs as this process."""
        if identity is None:
            self.parts.pop(name, None)
        else:
            self.parts[name] = identity
        self.write()

    def write(self) -> None:
        """Store the notes; a reader sees the old or the new ones whole."""
        notes = {
            **Identity.of(os.getpid())._asdict(),
            "url": self.url,
            "parts": self.parts,
        }
        private_write(self.path, json.dumps(notes, indent=1))

    def close(self) -> None:
        """Forget everything: no process is left."""
        self.path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def notes(self) -> dict[str, Any]:
        """Return what an `up` has stored last; empty after a clean stop."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            notes: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return notes
        return {}


def leftovers_end(ledger: Ledger) -> list[str]:
    """End what a killed `up` left of its parts, the database last; return their process ids."""
    found = ledger.leftovers()
    database = postgres.postmaster_pid(ledger.data_dir)
    end([process for process in found if process.pid != database], within=5.0)
    postgres.stop(ledger.data_dir)
    return [str(process.pid) for process in found]


def url_of_live_up(data_dir: Path) -> str:
    """Return where the live `up` of this DATA serves; "" when none does."""
    notes = Ledger(data_dir).notes()
    up = Identity(notes["pid"], notes["created"]) if notes else None
    return notes["url"] if up and up.process() else ""
