"""Corrections of p-values when several comparisons are made at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Correction = Literal["holm", "benjamini-hochberg", "bonferroni", "none"]


def correct(ps: Sequence[float], method: Correction = "holm") -> tuple[float, ...]:
    """Adjusted p-values in the order given, each to be held against the level itself.

    "holm" (Holm 1979) and "bonferroni" bound the chance of any false find, "benjamini-hochberg" (1995) the expected share of false ones among finds.
    ValueError for a p outside 0..1 or an unknown method.
    """
    raise NotImplementedError
