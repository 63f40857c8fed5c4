"""Effect sizes: numbers of the textbooks, and of statsmodels and scipy where those have them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from orchestrator.evidence import Arm, Arms, Effect, effect


def of(candidate: object, baseline: object) -> Effect:
    one, other = Arm("a", np.asarray(candidate, float)), Arm("b", np.asarray(baseline, float))
    names = tuple(f"p{at}" for at in range(one.scores.shape[1]))
    return effect(Arms(names, (one, other)).pair("a", "b"))


def test_dz_is_the_paired_t_over_the_root_of_n() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 1, 50), rng.normal(0, 1, 50)
    found = of(one, other)
    assert found.dz == pytest.approx(stats.ttest_rel(one, other).statistic / np.sqrt(50))
    assert found.risk_difference is None
    assert found.odds_ratio is None


@pytest.mark.parametrize(
    ("shift", "size"), [(0.1, "negligible"), (0.3, "small"), (-0.6, "medium"), (0.9, "large")]
)
def test_sizes_have_cohens_names(shift: float, size: str) -> None:
    values_P = np.tile([-1.0, 1.0], 500)
    values_P = values_P / values_P.std(ddof=1)
    assert of(values_P + shift, np.zeros(1000)).size == size


def test_without_any_spread_there_is_no_dz() -> None:
    assert of([1, 1], [1, 1]) == Effect(None, "none", 0.0, None, None)
    assert of([1, 1], [0, 0]).dz is None
    assert of([1, 1], [0, 0]).size == "large"


def test_odds_of_discordant_prompts_with_an_exact_interval() -> None:
    candidate = [1] * 30 + [0] * 10 + [1] * 5 + [0] * 5
    baseline = [0] * 30 + [1] * 10 + [1] * 5 + [0] * 5
    found = of(candidate, baseline)
    assert found.risk_difference == pytest.approx(20 / 50)
    assert found.odds_ratio == pytest.approx(3.0)
    low, high = proportion_confint(30, 40, method="beta")
    assert found.odds_interval is not None
    assert found.odds_interval.low == pytest.approx(low / (1 - low))
    assert found.odds_interval.high == pytest.approx(high / (1 - high))


def test_odds_without_a_loss_are_not_made_up() -> None:
    found = of([1, 1, 0], [0, 1, 0])
    assert found.odds_ratio is None
    assert found.odds_interval is None


def test_shares_of_several_samples_have_a_risk_difference_and_no_odds() -> None:
    found = of([[1, 1], [1, 0]], [[0, 1], [0, 0]])
    assert found.risk_difference == pytest.approx(0.5)
    assert found.odds_ratio is None
