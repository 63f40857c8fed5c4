"""How long each phase of a run may stay silent, from what was seen of this run. Pure but for one small file.

A silence is the time between two signs of life: a tick from inside the work, or the change to another part of a
step. It belongs to the phase that it lay in. Until an attempt has shown enough of a phase its floor is generous,
since first calls compile, load and allocate; afterwards it is tight. The longest silence that the run ever kept
lengthens both, also from earlier attempts.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

PROMISE_VARIABLE = "ANNEAL_PROMISE"
ORDINARY = 60.0
"""Seconds that an ordinary phase may be silent before enough was seen of it."""
PROMISE_LEAST, PROMISE_MOST = 1.0, 3600.0
LONG = {"load": 5.0, "checkpoint": 10.0}
"""Phases whose work is a few long calls without a tick between: by how much longer they may be silent."""
TIGHT = 0.25
"""Share of the floor that is left once enough was seen."""
ENOUGH = 20
"""Silences of one phase in one attempt after which they tell what is usual."""
TIMES = 3.0
"""How many times the longest silence that was seen is still taken for work."""
MOST = 86_000.0
"""Seconds; the server takes no promise beyond a day."""
PHASES_MOST = 64


def promise_ordinary() -> float:
    """The ordinary floor in seconds: ANNEAL_PROMISE, or 60. Raises ValueError for what is no such number."""
    text = os.environ.get(PROMISE_VARIABLE, "").strip()
    if not text:
        return ORDINARY
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not PROMISE_LEAST <= seconds <= PROMISE_MOST:
        raise ValueError(
            f"{PROMISE_VARIABLE} is {text!r}; it must be a number of seconds from {PROMISE_LEAST:g} to "
            f"{PROMISE_MOST:g}"
        )
    return seconds


def scaled(seconds: float) -> float:
    """Seconds that are meant for the default promise, at the promise that is set.

    A setting that is no number counts as unset here: the trainer refuses it, and whoever watches goes on.
    """
    try:
        return seconds * promise_ordinary() / ORDINARY
    except ValueError:
        return seconds


@dataclass
class Expectations:
    """What is known of the silences of one run, by phase."""

    ordinary: float = field(default_factory=promise_ordinary)
    longest: dict[str, float] = field(default_factory=dict)
    """Seconds of the longest silence that counts, over all attempts."""
    seen: dict[str, int] = field(default_factory=dict)
    """Silences of this attempt."""

    def of(self, phase: str) -> float:
        """Seconds that `phase` may be silent."""
        floor = self.ordinary * LONG.get(phase.rpartition("/")[2], 1.0)
        if self.seen.get(phase, 0) >= ENOUGH:
            floor *= TIGHT
        return min(MOST, max(floor, TIMES * self.longest.get(phase, 0.0)))

    def take(self, phase: str, silence: float) -> None:
        """Learn from a silence of so many seconds that has ended.

        One that broke its expectation counts as long as was expected: what hung must not make hanging usual, and
        what only grew slower is expected three times as long from then on.
        """
        if phase not in self.seen and len(self.seen) >= PHASES_MOST:
            return
        counted = min(max(silence, 0.0), self.of(phase))
        self.seen[phase] = self.seen.get(phase, 0) + 1
        self.longest[phase] = max(self.longest.get(phase, 0.0), counted)

    def words(self, phase: str) -> str:
        """From which history the expectation comes."""
        longest = self.longest.get(phase, 0.0)
        count = self.seen.get(phase, 0)
        if TIMES * longest >= self.of(phase):
            return f"{TIMES:g} times the longest silence of this run in it, {longest:.3g} s"
        if count >= ENOUGH:
            return f"the least that is waited for, as the longest of {count} silences took {longest:.2g} s"
        return "the first guess, as too little was seen of it yet"


def expectations_read(path: Path) -> Expectations:
    """What earlier attempts of the run have left; nothing where the file is absent or spoiled."""
    found = Expectations()
    try:
        raw: Any = json.loads(path.read_text())
        items = list(raw["longest"].items())[:PHASES_MOST]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return found
    for phase, seconds in items:
        if isinstance(seconds, (int, float)) and 0 <= seconds <= MOST:
            found.longest[str(phase)[:32]] = float(seconds)
    return found


def expectations_write(path: Path, known: Expectations) -> None:
    """Leave what is known to later attempts. Raises OSError when the disk does not take it."""
    longest = {phase: round(seconds, 3) for phase, seconds in known.longest.items()}
    write_atomic(path, json.dumps({"longest": longest}))
