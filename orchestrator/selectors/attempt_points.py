"""What one attempt logged, read no further than a question needs: heads and picks before points.

Picks hold the first NaN and the first of the infinities of every 512 points, so that the first value that is
no number is found without reading a curve. Times are Unix seconds by the node's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.models import Series
from orchestrator.selectors.points import (
    ALL_COLUMNS,
    BlockKey,
    BlocksMoved,
    columns_read,
    keys_of,
    picks_read,
    stored_read,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from orchestrator.models import Run

SICK = ("loss", "grad_norm")
"""A value of these that is no number is a bad signal, whenever it comes."""
ROUNDING = 1e-3
"""Seconds that moments may differ by and still be the same one."""
FIGURE = np.dtype([("place", "<i8"), ("step", "<i8"), ("time", "<f8"), ("value", "<f8")])
"""A point and its place among those of its series and attempt."""


class AttemptPoints:
    """The points of one attempt by metric. Raises BlocksMoved when blocks are packed in between: look again."""

    def __init__(self, run: Run, number: int, keys: Iterable[str] | None = None) -> None:
        series = Series.objects.filter(run=run)
        named = dict(
            (series if keys is None else series.filter(key__in=list(keys))).values_list("key", "pk")
        )
        found = stored_read(run, list(named.values()), after=(number, 0)) if named else {}
        self._heads: dict[str, NDArray[Any]] = {}
        self._tails: dict[str, NDArray[Any]] = {}
        self._read: dict[BlockKey, NDArray[Any]] = {}
        for key, pk in named.items():
            heads, tail = found[pk].heads, found[pk].tail.get(number)
            heads = heads[heads["attempt"] == number]
            if len(heads) or tail is not None:
                self._heads[key] = heads
                self._tails[key] = _figures(tail, int(heads["count"].sum()))

    @property
    def keys(self) -> list[str]:
        """The metrics of which it logged anything."""
        return list(self._heads)

    def count(self, key: str) -> int:
        """How many points it logged of a metric."""
        return int(self._heads[key]["count"].sum()) + len(self._tails[key])

    def last(self, key: str, count: int) -> NDArray[Any]:
        """The last `count` points, dtype FIGURE."""
        heads, parts, wanted = self._heads[key], [self._tails[key]], count - len(self._tails[key])
        for at in range(len(heads) - 1, -1, -1):
            if wanted <= 0:
                break
            parts.insert(0, self._block(heads[at : at + 1]))
            wanted -= len(parts[0])
        return np.concatenate(parts)[-count:]

    def upto(self, key: str, *, step: float = np.inf, time: float = np.inf) -> NDArray[Any]:
        """Points at or below this step and time, of the last block that has any: dtype FIGURE."""
        heads, tail, time = self._heads[key], self._tails[key], time + ROUNDING
        tail = tail[(tail["step"] <= step) & (tail["time"] <= time)]
        begun = np.flatnonzero((heads["step_low"] <= step) & (heads["time_low"] <= time))
        if len(tail) or not len(begun):
            return tail
        points = self._block(heads[begun[-1] : begun[-1] + 1])
        return points[(points["step"] <= step) & (points["time"] <= time)]

    def first_sick(self, keys: Sequence[str]) -> dict[str, Any]:
        """The first value that is no number of each metric that has one."""
        picked = self._picked({key: self._heads[key] for key in keys if key in self._heads})
        found = {}
        for key, points in picked.items():
            bad = points[~np.isfinite(points["value"])]
            if len(bad):
                found[key] = bad[0]
        return found

    def turned(self, since: float) -> dict[str, Any]:
        """Where each metric that was a number first was none: since then, or for good.

        One that was no number now and then for longer, and is one again, says nothing.
        """
        late = {
            key: heads[heads["time_high"] >= since] if len(heads) else heads
            for key, heads in self._heads.items()
        }
        # The newest block tells whether the metric is a number again.
        late = {key: heads if len(heads) else self._heads[key][-1:] for key, heads in late.items()}
        suspects = [
            key
            for key, points in self._picked(late).items()
            if (~np.isfinite(points["value"][points["time"] >= since])).any()
            or (len(points) and not np.isfinite(points["value"][-1]))
        ]
        found = {}
        for key, points in self._picked({key: self._heads[key] for key in suspects}).items():
            bad = ~np.isfinite(points["value"])
            first = int(np.argmax(bad))
            was = first > 0
            if was and (points["time"][first] >= since or bad[first:].all()):
                found[key] = points[first]
        return found

    def _picked(self, heads: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The picks of blocks and all points behind them, by metric: dtype FIGURE."""
        picks = picks_read([key for mine in heads.values() for key in keys_of(mine)])
        found = {}
        for key, mine in heads.items():
            parts = [_placed(picks[block], block) for block in keys_of(mine)]
            found[key] = np.concatenate([*parts, self._tails[key]])
        return found

    def _block(self, head: NDArray[Any]) -> NDArray[Any]:
        [key] = keys_of(head)
        if key not in self._read:
            self._read[key] = _figures(columns_read([key], ALL_COLUMNS)[key], key[2])
        return self._read[key]


def _figures(points: NDArray[Any] | None, start: int) -> NDArray[Any]:
    figures = np.empty(0 if points is None else len(points), FIGURE)
    figures["place"] = start + np.arange(len(figures))
    if points is not None:
        for name in ("step", "time", "value"):
            figures[name] = points[name]
    return figures


def _placed(picks: NDArray[Any], block: BlockKey) -> NDArray[Any]:
    figures = picks.astype(FIGURE)
    figures["place"] += block[2]
    return figures


def first_sick_step(run: Run, number: int) -> int | None:
    """The first step of an attempt whose loss or gradient was no number."""
    while True:
        try:
            found = AttemptPoints(run, number, SICK).first_sick(SICK)
        except BlocksMoved:
            continue
        return min((int(point["step"]) for point in found.values()), default=None)
