"""Signs of life between processes of one machine: one touches a file, another sees whether it still does.

A process that stands still (SIGSTOP, a dead loop that holds Python's lock) does not die, and whoever restarts the
dead never notices it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.expectation import scaled

if TYPE_CHECKING:
    from pathlib import Path

TOUCH_EVERY = 1.0
HUNG, HUNG_LEAST = 30.0, 5.0
"""Seconds without a touch, at the default promise, after which host, ship and node take one another for hung."""
STARTS_WITHIN = 10.0
OVERSLEPT = 3.0
"""Seconds between two looks after which the watcher itself stood still, and knows nothing of the others."""


def hung_after() -> float:
    """Seconds without a touch after which a process of a run is taken for hung."""
    return max(HUNG_LEAST, scaled(HUNG))


def touch(path: Path) -> None:
    """Say that we live. A full disk keeps nobody from working: without a file nothing is concluded.

    The folder is made and none above it: what was deleted meanwhile stays deleted.
    """
    with contextlib.suppress(OSError):
        try:
            os.utime(path)
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
            path.touch()


class Touches:
    """Touches a file about once a second, from inside a loop that turns more often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0.0

    def turn(self, now: float) -> None:
        """One turn of the loop."""
        if now - self._at >= TOUCH_EVERY:
            self._at = now
            touch(self.path)


def touch_always(path: Path) -> None:
    """Touch a file from a thread of its own for as long as this process lives."""

    def work() -> None:
        while True:
            touch(path)
            time.sleep(TOUCH_EVERY)

    threading.Thread(target=work, name="liveness", daemon=True).start()


@dataclass
class Steadiness:
    """Notices that the watcher itself stood still: a suspended machine or process blames nobody."""

    looked_at: float | None = None

    def overslept(self, now: float, most: float = OVERSLEPT) -> bool:
        """Whether more than `most` seconds lie between this look and the one before."""
        before, self.looked_at = self.looked_at, now
        return before is not None and now - before > most


class Watch:
    """Looks at a file that somebody touches. Times are of a clock that is never set."""

    def __init__(self, path: Path, limit: float, oversleeps: float = OVERSLEPT) -> None:
        self.path = path
        self.limit = limit
        """Seconds without a touch after which its owner hangs."""
        self.oversleeps = oversleeps
        self._steady = Steadiness()
        self._stamp: int | None = None
        self._since = 0.0

    def again(self, now: float) -> None:
        """Count anew: its owner was just started, and needs some time until its first touch."""
        self._since, self._stamp = now + STARTS_WITHIN, self._read()

    def hangs(self, now: float) -> float:
        """For how many seconds it was not touched, once these are too many; else 0.

        A file that was never there tells nothing: its owner may be of a version that touches none.
        """
        stamp = self._read()
        if self._steady.overslept(now, self.oversleeps) or stamp != self._stamp or stamp is None:
            self._since, self._stamp = now, stamp
        silent = now - self._since
        return silent if silent > self.limit else 0.0

    def _read(self) -> int | None:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None
