"""Curves: what charts draw of a run, and what came after a cursor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.models import Run, Series
from orchestrator.selectors.curves import Curve, Window, curves_read, values_read
from orchestrator.selectors.points import BlocksMoved, points_stored, series_ids, stored_read
from orchestrator.selectors.streams import cursor_of
from trainer.events import number_encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["cursor_of", "points_after", "series_keys", "series_read"]

TOKENS_AXIS = "tokens"
AXES = ("step", "time", TOKENS_AXIS)
TOKENS = "num_tokens"
POINTS_LEAST, POINTS_MOST = 8, 100_000

LISTS = ("x", "y", "min", "max", "nan_x")

Cursor = dict[str, int]


def series_keys(run: Run) -> list[str]:
    """The names of all metrics of a run, sorted."""
    return list(Series.objects.filter(run=run).order_by("key").values_list("key", flat=True))


def series_read(
    *,
    run: Run,
    keys: Sequence[str],
    x: str = "step",
    points: int = 1500,
    start: float | None = None,
    end: float | None = None,
    attempt: int | None = None,
    upto: Cursor | None = None,
) -> dict[str, dict[str, Any]]:
    """Each key's curve along `x` between `start` and `end` (both included), thinned to `points`.

    Of points logged twice at a step the newest attempt's counts, unless `attempt` asks for one.
    `upto` leaves out what was stored behind that cursor. Raises ValueError for an unknown axis.
    """
    if x not in AXES:
        raise ValueError(f"x is '{x}'; use {', '.join(AXES)}")
    most = min(max(points, POINTS_LEAST), POINTS_MOST)
    place = (upto["attempt"], upto["seq"]) if upto is not None else None
    window = Window("step" if x == TOKENS_AXIS else x, start, end, attempt, place)
    while True:
        try:
            if x == TOKENS_AXIS:
                return _along_tokens(run, keys, window, most)
            return {key: _shape(curve, x) for key, curve in _curves(run, keys, window, most)}
        except BlocksMoved:
            continue


def _curves(
    run: Run, keys: Sequence[str], window: Window, most: int | None
) -> list[tuple[str, Curve | None]]:
    ids = series_ids(run, keys)
    stored = stored_read(run, list(ids.values())) if ids else {}
    curves = curves_read([stored[pk] for pk in ids.values()], window, most)
    found = dict(zip(ids, curves, strict=True))
    return [(key, found.get(key)) for key in keys]


def _along_tokens(
    run: Run, keys: Sequence[str], window: Window, most: int
) -> dict[str, dict[str, Any]]:
    """Curves along the count of tokens; a step without one of its own stands at the last one before it."""
    tokens = Tokens(run, replace(window, low=None, high=None))
    if window.low is None and window.high is None:
        curves = _curves(run, keys, window, most)
    elif tokens.rising:
        low, high = tokens.steps(window)
        curves = _curves(run, keys, replace(window, low=low, high=high), most)
    else:
        # A count that falls at times lets no span of steps be cut out: every point is looked at.
        whole = _curves(run, keys, replace(window, low=None, high=None), None)
        curves = [
            (key, curve and curve.cut(window.inside(tokens.at(curve.points["step"])), most))
            for key, curve in whole
        ]
    return {key: _shape(curve, TOKENS_AXIS, tokens) for key, curve in curves}


class Tokens:
    """How many tokens were counted by each step."""

    def __init__(self, run: Run, window: Window) -> None:
        counted = np.empty(0)
        self._step = np.empty(0, np.int64)
        for pk in series_ids(run, [TOKENS]).values():
            self._step, counted = values_read(stored_read(run, [pk])[pk], window)
        self._count = np.nan_to_num(np.append(0.0, counted))
        self.rising = bool((np.diff(self._count) >= 0).all())

    def at(self, steps: NDArray[Any]) -> NDArray[Any]:
        """The count at each step."""
        return self._count[np.searchsorted(self._step, steps, side="right")]

    def steps(self, window: Window) -> tuple[float | None, float | None]:
        """The steps whose counts lie in a window of counts, which rise."""
        inside = np.flatnonzero(window.inside(self._count))
        if not len(inside):
            return np.inf, -np.inf
        first, last = inside[0], inside[-1]
        low = float(self._step[first - 1]) if first else None
        high = float(self._step[last] - 1) if last < len(self._step) else None
        return low, high


def _shape(curve: Curve | None, axis: str, tokens: Tokens | None = None) -> dict[str, Any]:
    if curve is None:
        return {**{name: [] for name in LISTS}, "total": 0, "nan": 0, "reduced": False}
    x = tokens.at(curve.points["step"]) if tokens is not None else curve.points[axis]
    # Clocks of two machines may disagree: a curve over time runs from left to right all the same.
    order = np.argsort(x, kind="stable")
    x, y = x[order], curve.points["value"][order]
    return {
        "x": x.tolist(),
        "y": _numbers(y),
        "min": _numbers(curve.low[order]),
        "max": _numbers(curve.high[order]),
        "total": curve.total,
        "nan": curve.missing,
        "nan_x": x[np.isnan(y)].tolist(),
        "reduced": curve.reduced,
    }


def _numbers(values: NDArray[Any]) -> list[float | str]:
    """Numbers as they travel: non-finite ones are strings."""
    numbers: list[float | str] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)):
        numbers[place] = number_encode(float(values[place]))
    return numbers


def points_after(
    *, run: Run, keys: Sequence[str], after: Cursor
) -> tuple[dict[str, list[list[float | str]]], Cursor]:
    """What was stored behind a cursor, per key as [step, value, time] in order, and the new cursor."""
    # The cursor first: a push that lands in between belongs to the next read.
    upto = cursor_of(run)
    here, there = (after["attempt"], after["seq"]), (upto["attempt"], upto["seq"])
    if there <= here:
        return {}, upto
    found = points_stored(run, keys, here)
    deltas = {
        key: [point for number, points in parts for point in _delta(number, points, there)]
        for key, parts in found.items()
    }
    return {key: delta for key, delta in deltas.items() if delta}, upto


def _delta(attempt: int, points: NDArray[Any], upto: tuple[int, int]) -> list[list[float | str]]:
    if attempt >= upto[0]:
        points = points[points["seq"] <= upto[1]] if attempt == upto[0] else points[:0]
    columns = points["step"].tolist(), _numbers(points["value"]), points["time"].tolist()
    return [list(point) for point in zip(*columns, strict=True)]
