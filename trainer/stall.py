"""Notices a trainer that broke its promise to speak. Pure: the clock and what was read are given.

Only silence counts. A process that uses its CPU or a GPU that calls itself busy may well hang, and the trainer's
own clock may be set; so silence is measured here, from when a sign of life was seen, by a clock that nobody sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.expectation import LONG, ORDINARY, scaled
from trainer.liveness import Steadiness

if TYPE_CHECKING:
    from pathlib import Path

GRACE = 5.0
"""Seconds over the promise, at the default promise: writing, reading and a busy machine take time too."""
GRACE_LEAST = 1.0
ENDS = ("start", "exit")
"""Phases of a process before its first line and behind its last one."""
QUIET = 2.0
"""Seconds of silence after which the first measure of the processes is taken, to compare with later."""


@dataclass
class Told:
    """What the trainer said last of itself."""

    phase: str = "start"
    step: int = 0
    promise: float = field(default_factory=lambda: scaled(ORDINARY * LONG["load"]))
    """Seconds within which it will speak. Until its first line nothing is known but that it loads."""
    because: str = "the first guess, as it has not spoken yet"


def doing_read(path: Path, told: Told) -> Told:
    """Where the trainer is by its file `doing`, which is newer than its last line; else `told`."""
    try:
        phase, expected, because = path.read_text().splitlines()[:3]
        seconds = float(expected)
    except (OSError, ValueError):
        return told
    if told.phase in ENDS or not phase or not seconds > 0:
        return told
    return Told(phase[:32], told.step, seconds, because[:200])


@dataclass
class Whereabouts:
    """Follows the file `doing`: that it was written is a sign of life, and what it expects is in force.

    A line is due only as the longest expectation since the last one says, so after a save, which may take long,
    the lines alone would let a hang pass for as long.
    """

    path: Path
    _seen: tuple[int, bytes] = (0, b"")

    def moved(self) -> bool:
        """Whether the file was written since the last look.

        By its stamp and its text: parts follow each other within one tick of the clock that stamps files.
        """
        try:
            seen = (self.path.stat().st_mtime_ns, self.path.read_bytes())
        except OSError:
            return False
        moved, self._seen = seen != self._seen, seen
        return moved


@dataclass
class StallWatch:
    """Says when a stall begins and ends."""

    grace: float = field(default_factory=lambda: max(GRACE_LEAST, scaled(GRACE)))
    heard_at: float | None = None
    stalled: bool = False
    _steady: Steadiness = field(default_factory=Steadiness)

    def silence(self, now: float) -> float:
        """Seconds since a sign of life was seen."""
        return 0.0 if self.heard_at is None else max(0.0, now - self.heard_at)

    def look(self, now: float, *, spoke: bool, promise: float) -> Literal["stall", "over"] | None:
        """One look; `spoke` when there was a sign of life since the last one."""
        overslept = self._steady.overslept(now)
        if self.heard_at is None or spoke or (overslept and not self.stalled):
            self.heard_at = now
        if self.stalled and spoke:
            self.stalled = False
            return "over"
        if not self.stalled and self.silence(now) > promise + self.grace:
            self.stalled = True
            return "stall"
        return None
