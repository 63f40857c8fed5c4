"""The voice of a rank that has none: only the first process of a training writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.engine.progress import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.engine.failure import Verdict


class Mute(Report):
    """Says nothing; knows the phase and the step as the one that speaks does."""

    def __init__(self) -> None:
        self.phase = self.part = ""
        self.step = self.total_steps = 0

    def status(self, phase: str, *, data: dict[str, Any] | None = None, message: str = "") -> None:
        self.phase = phase

    def tick(self) -> None:
        """Its silence is that of the first process, which waits for it."""

    def enter(self, part: str) -> None:
        self.part = part

    def metrics(self, step: int, values: dict[str, float]) -> None:
        pass

    def wants_samples(self) -> bool:
        return False

    def write_samples(self, samples: Iterable[dict[str, Any]]) -> None:
        pass

    def checkpoint(self, **fields: Any) -> None:
        pass

    def alert(
        self, level: str, code: str, message: str, *, data: dict[str, Any] | None = None
    ) -> None:
        pass

    def end(self, verdict: Verdict) -> None:
        pass
