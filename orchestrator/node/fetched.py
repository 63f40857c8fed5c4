"""What was fetched onto this disk for runs: checkpoints of other runs, and data sets.

It is kept a while for the next run that wants it, and goes when nobody has for long or it takes up too much. What
stays in any case: what a live attempt or one that is being prepared uses, what a run that has not ended names (the
server says so), and what was used within the last hour.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.node.server import Refused, Unreachable
from trainer.disk import disk_bytes

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.node.hosts import Hosts
    from orchestrator.node.preparing import Preparing
    from orchestrator.node.server import Server

log = logging.getLogger(__name__)

HOUR, DAY = 3600.0, 86_400.0
KEPT_DAYS = float(os.environ.get("ANNEAL_FETCHED_DAYS") or 7)
"""Days after its last use for which something is kept."""
KEPT_BYTES = float(os.environ.get("ANNEAL_FETCHED_GB") or 0) * 1e9
"""Most that all of it may take up; 0 is a tenth of the disk."""
SHARE_OF_DISK = 0.1
YOUNG = HOUR
LOOK_EVERY = 600.0
GONE = ".gone-"


@dataclass(frozen=True)
class Thing:
    """A checkpoint's folder or a data set's file, whole or half arrived."""

    path: Path
    kind: str
    """"checkpoints" or "datasets"."""
    name: str
    """The checkpoint's id, or the SHA-256 of the data."""
    used: float
    """When it was last used, Unix seconds."""
    bytes: int


@dataclass
class Fetched:
    """The larder of one node."""

    server: Server
    data_dir: Path
    hosts: Hosts
    preparing: Preparing
    shares_server: bool = True
    """Whether DATA is the server's own: then its data sets are not copies, and stay."""

    def work(self, ending: threading.Event) -> None:
        """Look every ten minutes until `ending`."""
        while not ending.wait(LOOK_EVERY):
            try:
                self.prune()
            except Exception:
                # The next look must come all the same.
                log.exception("pruning what was fetched")

    def prune(self) -> int:
        """Remove what nobody needs and is too old or too much; returns the bytes that this freed."""
        for rest in self._leftovers():
            _delete(rest)
        wanted = self._due(list(self._things()))
        if not wanted:
            return 0
        try:
            needed = self._needed(wanted)
        except (Unreachable, Refused) as error:
            log.warning("what was fetched stays: nobody says what is needed: %s", error)
            return 0
        freed = 0
        for thing in wanted:
            if thing.name not in needed[thing.kind] and (gone := self._take(thing)) is not None:
                _delete(gone)
                freed += thing.bytes
                log.info("removed %s, %d bytes: nobody needs it", thing.path, thing.bytes)
        return freed

    def _things(self) -> Iterator[Thing]:
        places = [("checkpoints", self.data_dir / "fetched")]
        if not self.shares_server:
            places.append(("datasets", self.data_dir / "datasets"))
        for kind, folder in places:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    size = disk_bytes(path) if path.is_dir() else stat.st_blocks * 512
                    name = path.name.lstrip(".").partition(".")[0]
                    if GONE not in path.name:
                        yield Thing(path, kind, name, stat.st_mtime, size)

    def _due(self, things: list[Thing]) -> list[Thing]:
        """What age or size would have go, the longest unused first."""
        most = KEPT_BYTES or SHARE_OF_DISK * shutil.disk_usage(self.data_dir).total
        total, used = sum(thing.bytes for thing in things), self._in_use()
        now = time.time()
        due = []
        for thing in sorted(things, key=lambda thing: thing.used):
            age = now - thing.used
            if age < YOUNG or thing.path.relative_to(self.data_dir).as_posix() in used:
                continue
            if age > KEPT_DAYS * DAY or total > most:
                due.append(thing)
                total -= thing.bytes
        return due

    def _in_use(self) -> set[str]:
        """What live attempts were started with, as paths below DATA."""
        return {path for attempt in self.hosts.live_attempts() for path in uses_of(attempt.lease)}

    def _needed(self, things: Iterable[Thing]) -> dict[str, set[str]]:
        asked: dict[str, list[str]] = {"checkpoints": [], "datasets": []}
        for thing in things:
            asked[thing.kind].append(thing.name)
        answer: dict[str, Any] = self.server.post("/fetched/needed", asked)
        return {kind: set(answer[kind]) for kind in asked}

    def _take(self, thing: Thing) -> Path | None:
        """Take it out of the way of orders that arrive from now on; None when somebody has used it meanwhile."""
        with self.preparing.at_rest() as quiet:
            if not quiet:
                return None
            with suppress(FileNotFoundError):
                if thing.path.stat().st_mtime == thing.used:
                    gone = thing.path.with_name(f"{thing.path.name}{GONE}{os.getpid()}")
                    thing.path.rename(gone)
                    return gone
        return None

    def _leftovers(self) -> list[Path]:
        """What a node that was killed had taken out of the way."""
        folders = (self.data_dir / "fetched", self.data_dir / "datasets")
        return [path for folder in folders if folder.is_dir() for path in folder.glob(f"*{GONE}*")]


def uses_of(lease: Path) -> list[str]:
    """What an attempt was started with of what was fetched, as its lease notes it."""
    with suppress(OSError, ValueError):
        found: list[str] = json.loads(lease.read_text()).get("uses", [])
        return found
    return []


def used(path: Path) -> None:
    """Note that something is used now."""
    os.utime(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
