"""What ship says in a beat: how long the journals are, and how far this machine's clock is from the server's."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from trainer.events import JOURNALS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.rundir import AttemptDir

READ_BYTES = 1 << 20
LOOK_BYTES = 32 << 20
"""Most that is read of a journal between two beats; a longer one is counted over several."""
EXCHANGES_KEPT = 8
DRIFT = 1e-4
"""Seconds that two clocks may move apart in a second: what is known of their difference fades that fast."""


class Beats:
    """Makes the beats of one attempt, and learns from their answers."""

    def __init__(
        self,
        attempt: AttemptDir,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lengths = {source: Length(attempt.journal(source)) for source in JOURNALS}
        self.exchanges: list[tuple[float, float, float]] = []
        """(half of the round trip, offset, when) of the exchanges that tell most, in seconds."""
        self._clock = clock
        self._steady = steady

    def frame(self) -> str:
        """The next beat. A server that knows only `op` may ignore the rest."""
        journals = {source: length.look() for source, length in self.lengths.items()}
        beat: dict[str, Any] = {"op": "beat", "journals": journals}
        if self.exchanges:
            now = self._steady()
            best = min(self.exchanges, key=lambda exchange: self._within(exchange, now))
            beat["clock"] = [round(best[1], 6), round(self._within(best, now), 6)]
        return json.dumps({**beat, "sent": self._clock()})

    @staticmethod
    def _within(exchange: tuple[float, float, float], now: float) -> float:
        """By how much the offset may be wrong by now."""
        return exchange[0] + DRIFT * (now - exchange[2])

    def answered(self, answer: dict[str, Any]) -> None:
        """Learn from the answer to a beat; an older server's says nothing of clocks."""
        heard = self._clock()
        try:
            sent = float(answer["sent"])
            arrived, replied = (float(moment) for moment in answer["clock"])
        except (KeyError, TypeError, ValueError):
            return
        within = max(0.0, (heard - sent) - (replied - arrived)) / 2
        offset = ((sent - arrived) + (heard - replied)) / 2
        if not (math.isfinite(within) and math.isfinite(offset)):
            return
        now = self._steady()
        # A clock that was set makes all of the past untrue, however well it was known.
        self.exchanges = [
            one for one in self.exchanges if abs(one[1] - offset) <= self._within(one, now) + within
        ]
        self.exchanges.append((within, offset, now))
        # An answer that had to wait may have waited on either way. After a server that hung come many of
        # those at once, and they must not push out what was known well before.
        self.exchanges.sort(key=lambda exchange: self._within(exchange, now))
        del self.exchanges[EXCHANGES_KEPT:]


class Length:
    """How many complete lines a growing file holds; it reads only what was added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._read = 0

    def look(self) -> list[int]:
        """[complete lines counted, bytes of the file, bytes of it not counted yet]."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._read:  # a torn last line was cut
                    self.lines = self._read = 0
                file.seek(self._read)
                end = min(size, self._read + LOOK_BYTES)
                while self._read < end and (part := file.read(min(READ_BYTES, end - self._read))):
                    self.lines += part.count(b"\n")
                    self._read += len(part)
        except FileNotFoundError:
            return [0, 0, 0]
        return [self.lines, size, size - self._read]
