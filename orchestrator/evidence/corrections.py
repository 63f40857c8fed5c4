"""Corrections of p-values when several comparisons are made at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Correction = Literal["holm", "benjamini-hochberg", "bonferroni", "none"]


def correct(ps: Sequence[float], method: Correction = "holm") -> tuple[float, ...]:
    """Adjusted p-values in the order given, each to be held against the level itself.

    "holm" (Holm 1979) and "bonferroni" bound the chance of any false find, "benjamini-hochberg" (Benjamini and
    Hochberg 1995) the expected share of false ones among finds. ValueError for a p outside 0..1 or an unknown
    method.
    """
    if method not in get_args(Correction):
        raise ValueError(f"correction: {method!r} is none of {', '.join(get_args(Correction))}")
    p_C = np.asarray(ps, dtype=np.float64)
    if not ((p_C >= 0) & (p_C <= 1)).all():
        raise ValueError(f"ps: a p-value lies between 0 and 1; these are {list(ps)}")
    count = p_C.size
    order_C = np.argsort(p_C, kind="stable")
    rank_C = np.arange(1, count + 1)
    sorted_C = p_C[order_C]
    if method == "holm":
        sorted_C = np.maximum.accumulate((count - rank_C + 1) * sorted_C)
    elif method == "benjamini-hochberg":
        sorted_C = np.minimum.accumulate((count / rank_C * sorted_C)[::-1])[::-1]
    elif method == "bonferroni":
        sorted_C = count * sorted_C
    adjusted_C = np.empty(count)
    adjusted_C[order_C] = np.minimum(1.0, sorted_C)
    return tuple(adjusted_C.tolist())
