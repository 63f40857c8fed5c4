"""Curves: what charts draw of a run, and what came after a cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.models import Run, Series
from orchestrator.selectors.points import points_fetch, superseded_removed
from orchestrator.selectors.streams import cursor_of
from orchestrator.selectors.thinning import thin
from trainer.events import number_encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["cursor_of", "points_after", "series_keys", "series_read"]

AXES = ("step", "time", "tokens")
TOKENS = "num_tokens"
POINTS_LEAST, POINTS_MOST = 6, 100_000

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
    points = min(max(points, POINTS_LEAST), POINTS_MOST)
    where, values = _where(
        attempt, upto, start if x == "step" else None, end if x == "step" else None
    )
    wanted = [*keys, TOKENS] if x == "tokens" else keys
    fetched = points_fetch(run=run, keys=wanted, where=where, values=values)
    rows = {key: superseded_removed(found) for key, found in fetched.items()}
    return {key: _curve(rows.get(key), rows.get(TOKENS), x, points, start, end) for key in keys}


def _where(
    attempt: int | None, upto: Cursor | None, start: float | None, end: float | None
) -> tuple[str, list[Any]]:
    parts: list[tuple[str, list[Any]]] = []
    if attempt is not None:
        parts.append(("AND attempt = %s", [attempt]))
    if upto is not None:
        parts.append(("AND (attempt, seq) <= (%s, %s)", [upto["attempt"], upto["seq"]]))
    # A step is superseded by the same step alone, so steps may be cut in SQL; times may not.
    if start is not None:
        parts.append(("AND step >= %s", [start]))
    if end is not None:
        parts.append(("AND step <= %s", [end]))
    return " ".join(text for text, _ in parts), [value for _, found in parts for value in found]


def _curve(
    rows: NDArray[Any] | None,
    tokens: NDArray[Any] | None,
    axis: str,
    points: int,
    start: float | None,
    end: float | None,
) -> dict[str, Any]:
    if rows is None:
        return _shape(np.empty(0), np.empty(0), points)
    x = _axis(rows, tokens, axis)
    inside = np.ones(len(x), dtype=bool)
    if start is not None:
        inside &= x >= start
    if end is not None:
        inside &= x <= end
    x, y = x[inside], rows["value"][inside]
    # Clocks of two machines may disagree: a curve over time runs from left to right all the same.
    order = np.argsort(x, kind="stable")
    return _shape(x[order], y[order], points)


def _axis(rows: NDArray[Any], tokens: NDArray[Any] | None, axis: str) -> NDArray[Any]:
    if axis != "tokens":
        return rows[axis]
    if tokens is None or not len(tokens):
        return np.zeros(len(rows))
    # A step without a count of its own, such as an evaluation, stands at the last count before it.
    place = np.searchsorted(tokens["step"], rows["step"], side="right")
    return np.nan_to_num(np.append(0.0, tokens["value"]))[place]


def _shape(x: NDArray[Any], y: NDArray[Any], points: int) -> dict[str, Any]:
    thinned = thin(x, y, points)
    missing = np.isnan(thinned.y)
    return {
        "x": thinned.x.tolist(),
        "y": _numbers(thinned.y),
        "min": _numbers(thinned.low),
        "max": _numbers(thinned.high),
        "total": len(x),
        "nan": int(np.isnan(y).sum()),
        "nan_x": thinned.x[missing].tolist(),
        "reduced": thinned.reduced,
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
    if (upto["attempt"], upto["seq"]) <= (after["attempt"], after["seq"]):
        return {}, upto
    span = [after["attempt"], after["seq"], upto["attempt"], upto["seq"]]
    where = "AND (attempt, seq) > (%s, %s) AND (attempt, seq) <= (%s, %s)"
    found = points_fetch(run=run, keys=keys, where=where, values=span)
    return {key: _delta(rows) for key, rows in found.items() if len(rows)}, upto


def _delta(rows: NDArray[Any]) -> list[list[float | str]]:
    rows = rows[np.lexsort((rows["seq"], rows["attempt"]))]
    columns = rows["step"].tolist(), _numbers(rows["value"]), rows["time"].tolist()
    return [list(point) for point in zip(*columns, strict=True)]
