"""Davidson's model equals an independent maximisation of its likelihood, and Bradley and Terry's without
ties."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize

from orchestrator.evidence.davidson import PRIOR, davidson_fit


def votes(seed: int, count: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three arms and a side, and outcomes one-hot."""
    rng = np.random.default_rng(seed)
    x = np.zeros((count, 4))
    for row in x:
        one, other = rng.choice(3, 2, replace=False)
        row[one], row[other], row[3] = 1, -1, 1
    t = x @ [0.5, 0.0, -0.5, 0.2]
    weights = np.exp(np.column_stack([t / 2, -t / 2, np.full(count, -0.5 if ties else -np.inf)]))
    picked = [rng.choice(3, p=row / row.sum()) for row in weights]
    return x, np.eye(3)[picked]


def test_it_is_the_peak_of_the_published_likelihood() -> None:
    x, outcomes = votes(0, 300, ties=True)

    def cost(theta: np.ndarray) -> float:
        """Davidson 1970, in strengths pi and the tie parameter nu."""
        total = PRIOR / 2 * float((theta**2).sum())
        nu = np.exp(theta[-1])
        for row, outcome in zip(x, outcomes, strict=True):
            one, other = int(row[:3].argmax()), int(row[:3].argmin())
            pi_one, pi_other = np.exp(theta[one] + theta[3]), np.exp(theta[other])
            tie = nu * np.sqrt(pi_one * pi_other)
            chances = np.array([pi_one, pi_other, tie]) / (pi_one + pi_other + tie)
            total -= float(outcome @ np.log(chances))
        return total

    reference = optimize.minimize(cost, np.zeros(5), method="BFGS")
    strengths, tie = davidson_fit(x, outcomes, np.ones((1, 300)))
    found = np.append(strengths[0], tie[0])
    assert found == pytest.approx(reference.x, abs=1e-3)
    # That search knows its slopes by differences alone: the peak found here is at least as high.
    assert cost(found) <= reference.fun + 1e-9


def test_without_ties_it_is_logistic_regression() -> None:
    x, outcomes = votes(1, 4_000, ties=False)
    strengths, tie = davidson_fit(x, outcomes, np.ones((1, 4_000)))
    reduced = np.column_stack([x[:, 0] - 0, x[:, 1], x[:, 3]])
    reference = sm.Logit(outcomes[:, 0], reduced).fit(disp=0, tol=1e-12).params
    found = strengths[0]
    assert tie[0] == -np.inf
    # The prior is worth less than a vote of four thousand.
    assert found[[0, 1]] - found[2] == pytest.approx(reference[:2], abs=2e-3)
    assert found[3] == pytest.approx(reference[2], abs=1e-3)


def test_a_weight_of_two_is_the_vote_twice() -> None:
    x, outcomes = votes(2, 60, ties=True)
    weights = np.ones((2, 60))
    weights[1, :20] = 2
    twice = davidson_fit(
        np.vstack([x, x[:20]]), np.vstack([outcomes, outcomes[:20]]), np.ones((1, 80))
    )
    both = davidson_fit(x, outcomes, weights)
    assert both[0][1] == pytest.approx(twice[0][0], abs=1e-9)
    assert both[0][0] == pytest.approx(davidson_fit(x, outcomes, np.ones((1, 60)))[0][0], abs=1e-9)


def test_an_arm_that_never_lost_stays_finite() -> None:
    x = np.tile([[1.0, -1.0]], (50, 1))
    strengths, _ = davidson_fit(x, np.tile([[1.0, 0.0, 0.0]], (50, 1)), np.ones((1, 50)))
    assert 3 < strengths[0, 0] - strengths[0, 1] < 12
