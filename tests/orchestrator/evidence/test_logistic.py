"""Logistic regression equals statsmodels' generalised linear model, for every weighting at once."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from orchestrator.evidence.logistic import logistic_fit


def rows(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x_NF = np.column_stack([np.ones(count), rng.normal(size=(count, 2))])
    return x_NF, rng.binomial(1, 1 / (1 + np.exp(-x_NF @ [0.3, 1.0, -0.5]))).astype(float)


def test_it_equals_statsmodels_for_each_weighting() -> None:
    x_NF, y_N = rows(0)
    weights_RN = np.random.default_rng(1).integers(0, 3, (3, 200)).astype(float)
    found_RF = logistic_fit(x_NF, y_N, weights_RN)
    for found_F, weight_N in zip(found_RF, weights_RN, strict=True):
        reference = sm.GLM(y_N, x_NF, sm.families.Binomial(), freq_weights=weight_N).fit(tol=1e-12)
        assert found_F == pytest.approx(reference.params, abs=1e-6)


def test_outcomes_between_0_and_1_are_shares() -> None:
    x_NF, y_N = rows(2)
    soft_N = 0.2 + 0.6 * y_N
    doubled = logistic_fit(
        np.vstack([x_NF, x_NF]),
        np.repeat([1.0, 0.0], 200),
        np.concatenate([soft_N, 1 - soft_N])[None],
    )
    assert logistic_fit(x_NF, soft_N, np.ones((1, 200))) == pytest.approx(doubled, abs=1e-8)


def test_outcomes_that_a_feature_separates_stay_finite() -> None:
    x_NF = np.column_stack([np.ones(20), np.linspace(-1, 1, 20)])
    found_RF = logistic_fit(x_NF, (x_NF[:, 1] > 0).astype(float), np.ones((1, 20)))
    assert np.isfinite(found_RF).all()
    assert found_RF[0, 1] > 5
