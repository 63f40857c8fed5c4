"""Prompts that one arm solves and another one loses, the surest first."""

from __future__ import annotations

from functools import lru_cache
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaln

from orchestrator.selectors.comparison_pairs import items_shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orchestrator.models import Comparison
    from orchestrator.selectors.comparison_pairs import View
    from orchestrator.selectors.comparison_sheet import Sheet


def regressions_page(
    comparison: Comparison, sheet: Sheet, view: View, *, page: int = 1, per_page: int = 50
) -> tuple[list[dict[str, Any]], int]:
    """Prompts on which B is worse than A, with `certainty` from 0.5 to 1, and how many there are."""
    found = regressions_of(sheet, view)
    start = (page - 1) * per_page
    some = found[start : start + per_page]
    shown = items_shown(comparison, sheet, view, [place for place, _ in some])
    for row, (place, certainty) in zip(shown, some, strict=True):
        row["certainty"] = certainty
        row["solved"] = [_solved(sheet, view.scorer, at, place) for at in (view.a, view.b)]
    return shown, len(found)


def regressions_of(sheet: Sheet, view: View) -> list[tuple[int, float]]:
    """Places in the sheet where A's mean is above B's, and how sure it is that A is better there.

    For right and wrong: the probability that A solves the prompt more often than B, given how many of their
    samples did (uniform priors). For other scores: the probability that a sample of A scores above one of B,
    ties counted half.
    """
    gains_AP = sheet.gains_AP(view.scorer)
    worse = np.flatnonzero(gains_AP[view.b] < gains_AP[view.a])
    scores_APK = sheet.sign(view.scorer) * sheet.scores[view.scorer]
    binary = sheet.binary(view.scorer) and sheet.sign(view.scorer) > 0
    found = []
    for place in worse.tolist():
        a_K, b_K = (_known(scores_APK[at, place]) for at in (view.a, view.b))
        if binary:
            counts = (int(a_K.sum()), len(a_K), int(b_K.sum()), len(b_K))
            certainty = solves_more_often(*counts)
        else:
            above = (a_K[:, None] > b_K[None]) + 0.5 * (a_K[:, None] == b_K[None])
            certainty = float(above.mean())
        found.append((place, certainty))
    lost = gains_AP[view.a] - gains_AP[view.b]
    return sorted(found, key=lambda one: (-one[1], -lost[one[0]], one[0]))


@lru_cache(maxsize=65_536)
def solves_more_often(a: int, of_a: int, b: int, of_b: int) -> float:
    """P(p_A > p_B) for a of of_a against b of of_b solved samples, both rates uniform before.

    The closed form for Beta distributions with whole parameters: a sum over the first one's successes.
    """
    alpha_a, beta_a, alpha_b, beta_b = a + 1, of_a - a + 1, b + 1, of_b - b + 1
    total = 0.0
    for i in range(alpha_a):
        total += exp(
            betaln(alpha_b + i, beta_a + beta_b)
            - log(beta_a + i)
            - betaln(1 + i, beta_a)
            - betaln(alpha_b, beta_b)
        )
    return min(1.0, total)


def _known(scores_K: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores_K[~np.isnan(scores_K)]


def _solved(sheet: Sheet, scorer: str, arm: int, place: int) -> dict[str, Any]:
    """How many samples solved it, of how many that have a score; the mean for other scores."""
    known = _known(sheet.scores[scorer][arm, place])
    return {
        "arm": sheet.arms[arm].name,
        "solved": int(known.sum()) if sheet.binary(scorer) else None,
        "samples": len(known),
        "mean": float(known.mean()),
    }
