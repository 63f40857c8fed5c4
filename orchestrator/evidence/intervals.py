"""Intervals by the bootstrap over prompts: whole prompts are drawn again, with all their samples.

Legend: P prompts, C comparisons side by side, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, which holds the true value in `level` of repetitions."""

    low: float
    high: float
    level: float
    method: str
    """How it was made: "bootstrap-t over prompts", "seeds and prompts", "no prompt differs", ..."""

    def holds(self, value: float) -> bool:
        """Whether `value` lies in it, ends included."""
        return self.low <= value <= self.high

    def within(self, margin: float) -> bool:
        """Whether all of it lies nearer to 0 than `margin`."""
        return -margin < self.low and self.high < margin
