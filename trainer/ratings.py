"""Ratings of answers: a number, a list of numbers, or numbers by name; null where nobody rated.

All rows of a run rate the same qualities: each is one output of the reward model that learns from them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.methods import Row

COLUMN = "rating"


def ratings_of(value: Any) -> dict[str, float]:
    """A row's ratings by quality, NaN = not rated. Raises ValueError for what is no rating.

    A bare number rates `rating`, the items of a list rate `rating-0`, `rating-1` and so on; names come in
    alphabetical order, because rows may hold them in any.
    """
    if isinstance(value, dict):
        return {str(name): _number(value[name], str(name)) for name in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return {f"{COLUMN}-{i}": _number(item, f"item {i}") for i, item in enumerate(value)}
    return {COLUMN: _number(value, "it")}


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r:.40}")
    if math.isinf(value):
        raise ValueError(f"{name} is infinite")
    return float(value)


def qualities_of(rows: Iterable[Row], origin: str) -> tuple[str, ...]:
    """The qualities that every row rates. Raises ValueError that names the row which differs.

    Rows without a rating are passed over: loading drops them.
    """
    found: tuple[str, ...] = ()
    for number, row in enumerate(rows, start=1):
        if row.get(COLUMN) in (None, "", []):
            continue
        where = f"{origin}: row {number}: '{COLUMN}'"
        try:
            names = tuple(ratings_of(row[COLUMN]))
        except ValueError as error:
            raise ValueError(
                f"{where} must be a number, a list or an object of numbers, null where not rated; {error}"
            ) from error
        if not names:
            raise ValueError(f"{where} holds no number")
        found = found or names
        if names != found:
            raise ValueError(
                f"{where} rates {', '.join(names)}, but the rows before rate {', '.join(found)}; "
                "rate the same qualities in every row, null where not rated"
            )
    return found
