"""The length-window reward."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.registry import Answer
from trainer.rewards.length_window import LengthWindow


def score(tokens: int, **knobs: Any) -> float:
    return LengthWindow(**knobs).score(Answer("", "", tokens, "stop", {}))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 0), (80, 0), (81, -0.05), (90, -0.5), (100, -1), (101, -1), (10**6, -1)],
)
def test_it_is_the_overlong_penalty_of_dapo(tokens: int, expected: float) -> None:
    """Equation 13: 0 up to L_max - L_cache, ((L_max - L_cache) - |y|) / L_cache, then -1."""
    assert score(tokens, max_tokens=100, ramp=20) == pytest.approx(expected)


@pytest.mark.parametrize(("tokens", "expected"), [(0, -1), (10, -1), (15, -0.5), (20, 0), (50, 0)])
def test_the_lower_end_mirrors_the_upper(tokens: int, expected: float) -> None:
    assert score(tokens, min_tokens=10, max_tokens=100, ramp=10) == pytest.approx(expected)


def test_without_a_ramp_the_ends_are_hard() -> None:
    knobs = {"min_tokens": 5, "max_tokens": 10, "ramp": 0}
    assert [score(tokens, **knobs) for tokens in (4, 5, 10, 11)] == [-1, 0, 0, -1]


def test_a_window_with_no_free_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_tokens must be at least 60"):
        LengthWindow(min_tokens=20, max_tokens=50, ramp=20)
