"""Means as (sum, n), divided once; extrema as extrema."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.engine.ranks import Ranks
    from trainer.methods import Loss


class Means:
    """Collects what the micro-batches of one step measured."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._maxima: dict[str, float] = {}
        self._minima: dict[str, float] = {}
        self.aside: Any = None
        """Plain data that this rank tells the others by the way, when they join."""
        self.asides: list[Any] = []
        """What every rank told, in their order."""
        self.met = 0.0
        """When that was, by `time.perf_counter`; 0 for a rank that is alone."""

    def add(self, key: str, total: float, count: float) -> None:
        """Add a partial sum over `count` items."""
        before = self._sums.get(key, (0.0, 0.0))
        self._sums[key] = (before[0] + total, before[1] + count)

    def highest(self, key: str, value: float) -> None:
        """Keep the larger value."""
        self._maxima[key] = max(value, self._maxima.get(key, value))

    def lowest(self, key: str, value: float) -> None:
        """Keep the smaller value."""
        self._minima[key] = min(value, self._minima.get(key, value))

    def add_loss(self, loss: Loss) -> None:
        """Add what a loss measured beside its value."""
        for key, (total, count) in loss.means.items():
            self.add(key, total, count)
        for key, value in loss.maxima.items():
            self.highest(key, value)
        for key, value in loss.minima.items():
            self.lowest(key, value)

    def over(self, ranks: Ranks, loss: float = 0.0) -> float:
        """Join with what the other ranks have collected, on every rank alike; returns the sum of all losses."""
        if ranks.alone:
            return loss
        told = [loss, self._sums, self._maxima, self._minima, self.aside]
        self._sums, self._maxima, self._minima = {}, {}, {}
        total, self.asides = 0.0, []
        gathered = ranks.gather({}, told)
        self.met = time.perf_counter()
        for _, (one, sums, maxima, minima, aside) in gathered:
            total += one
            self.asides.append(aside)
            for key, (part, count) in sums.items():
                self.add(key, part, count)
            for key, value in maxima.items():
                self.highest(key, value)
            for key, value in minima.items():
                self._minima[key] = min(value, self._minima.get(key, value))
        return total

    def count(self, key: str) -> float:
        """How many items a mean stands on."""
        return self._sums.get(key, (0.0, 0.0))[1]

    def values(self) -> dict[str, float]:
        """Every metric; a mean over nothing is left out."""
        means = {key: total / count for key, (total, count) in self._sums.items() if count > 0}
        return {**means, **self._maxima, **self._minima}
