"""Moving coefficients: schedules at their ends, and controllers against the published rules."""

from __future__ import annotations

import math

import pytest

from trainer.objectives._controllers import scheduled_beta, steered_beta, steered_entropy


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.325, 0.1]),
        ("cosine", [0.4, 0.35606602, 0.1]),
    ],
)
def test_schedules_start_and_end_where_they_say(schedule: str, wanted: list[float]) -> None:
    found = [scheduled_beta(0.4, 0.1, schedule, progress) for progress in (0.0, 0.25, 1.0)]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(0.1, 1.0), (0.105, 1.005), (0.2, 1.02), (5.0, 1.02), (0.05, 0.98), (-1.0, 0.98)],
)
def test_beta_follows_the_kl_by_at_most_a_fifth_of_the_gain(kl: float, factor: float) -> None:
    assert steered_beta(0.3, kl, 0.1, 0.1) == pytest.approx(0.3 * factor)


def test_beta_stays_without_a_measurement_and_below_its_ceiling() -> None:
    assert steered_beta(0.3, None, 0.1, 0.1) == 0.3
    assert steered_beta(0.3, math.nan, 0.1, 0.1) == 0.3
    assert steered_beta(9.99, 5.0, 0.1, 0.1) == 10.0


def test_a_steered_beta_brings_a_kl_that_answers_to_its_target() -> None:
    beta = 0.01
    for _ in range(400):
        beta = steered_beta(beta, 0.02 / beta, 0.1, 0.1)
    assert 0.02 / beta == pytest.approx(0.1, rel=0.02)


def test_the_entropy_controller_steps_and_gates() -> None:
    knobs = {"start": 0.01, "target": 0.5, "step": 0.005, "ceiling": 0.02}
    dials = steered_entropy({}, None, **knobs)
    assert dials == {"entropy_coef": 0.01, "entropy_coef_applied": 0.0}
    for entropy, running, applied in [
        (0.5, 0.015, 0.015),
        (0.1, 0.02, 0.02),
        (0.1, 0.02, 0.02),
        (0.6, 0.015, 0.0),
        (0.6, 0.01, 0.0),
        (0.6, 0.005, 0.0),
        (0.6, 0.0, 0.0),
        (0.6, 0.0, 0.0),
        (0.4, 0.005, 0.005),
    ]:
        dials = steered_entropy(dials, entropy, **knobs)
        assert dials == pytest.approx({"entropy_coef": running, "entropy_coef_applied": applied})
