"""The voice of a rank that has none: only the first process of a training writes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Literal

from trainer.engine.progress import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trainer.engine.failure import Verdict
    from trainer.spans import Span


TOUCH_EVERY = 0.2
"""Seconds between two signs of life, and between two looks for them."""


class Mute(Report):
    """Says nothing; knows the phase and the step as the one that speaks does."""

    def __init__(self, alive: Path | None = None) -> None:
        """`alive`: a file that is touched while the work goes on."""
        self.phase = self.part = ""
        self.step = self.total_steps = 0
        self._alive, self._next = alive, 0.0
        if alive is not None:
            alive.touch()

    def status(self, phase: str, *, data: dict[str, Any] | None = None, message: str = "") -> None:
        self.phase = phase

    def tick(self) -> None:
        """Show that the work goes on: whoever waits for it, lives as long as it does."""
        now = time.monotonic()
        if self._alive is not None and now >= self._next:
            self._next = now + TOUCH_EVERY
            os.utime(self._alive)

    def enter(self, part: str) -> None:
        self.part = part

    def metrics(self, step: int, values: dict[str, float]) -> None:
        pass

    def spans(
        self,
        step: int,
        process: str,
        spans: Sequence[Span],
        *,
        folded: int = 0,
        counts: bool = True,
        stands_for: int | None = None,
    ) -> int | None:
        return None

    def wants_samples(self) -> bool:
        return False

    def write_samples(self, samples: Iterable[dict[str, Any]]) -> None:
        pass

    def write_answers(
        self,
        kind: Literal["answer", "reading", "judgement", "played"],
        events: Sequence[dict[str, Any]],
    ) -> None:
        pass

    def checkpoint(self, **fields: Any) -> None:
        pass

    def alert(
        self, level: str, code: str, message: str, *, data: dict[str, Any] | None = None
    ) -> None:
        pass

    def end(self, verdict: Verdict) -> None:
        pass
