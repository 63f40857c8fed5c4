"""Corrections equal statsmodels', and bound the chance of a false find."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from orchestrator.evidence import correct

NAMES = {"holm": "holm", "benjamini-hochberg": "fdr_bh", "bonferroni": "bonferroni"}


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_it_equals_statsmodels(method: str, count: int) -> None:
    rng = np.random.default_rng(count)
    for ps in (rng.random(count), rng.random(count) ** 6, np.round(rng.random(count), 1)):
        expected = multipletests(ps, method=NAMES[method])[1]
        assert correct(ps.tolist(), method) == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]


def test_none_changes_nothing() -> None:
    assert correct([0.3, 0.01], "none") == (0.3, 0.01)
    assert correct([], "holm") == ()


@pytest.mark.parametrize("method", ["holm", "bonferroni"])
def test_any_false_find_among_six_is_as_rare_as_the_level(method: str) -> None:
    ps = np.random.default_rng(0).random((2_000, 6))
    plain = (ps.min(axis=1) <= 0.05).mean()
    adjusted = np.array([min(correct(row, method)) for row in ps.tolist()])  # type: ignore[arg-type]
    assert plain > 0.2
    assert (adjusted <= 0.05).mean() <= 0.05 + 0.015


def test_bad_input_is_told_in_words() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        correct([0.2, 1.2])
    with pytest.raises(ValueError, match="'sidak' is none of holm"):
        correct([0.2], "sidak")  # type: ignore[arg-type]
