"""The overlong penalty of DAPO."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.registry import Answer
from trainer.rewards.overlong_penalty import OverlongPenalty


def score(tokens: int, finish_reason: Any = "stop", **knobs: Any) -> float:
    return OverlongPenalty(**knobs).score(Answer("", "", tokens, finish_reason, {}))


@pytest.mark.parametrize("tokens", range(0, 130, 3))
def test_it_is_equation_13(tokens: int) -> None:
    longest, cache = 100, 20
    if tokens <= longest - cache:
        wanted = 0.0
    elif tokens <= longest:
        wanted = ((longest - cache) - tokens) / cache
    else:
        wanted = -1.0
    assert score(tokens, max_tokens=longest, buffer_tokens=cache) == pytest.approx(wanted)


def test_at_the_limit_it_is_the_whole_penalty() -> None:
    assert score(100, max_tokens=100, buffer_tokens=20) == -1.0


def test_a_truncated_answer_gets_the_whole_penalty_at_any_length() -> None:
    assert score(10, "length", max_tokens=100, buffer_tokens=20) == -1.0


def test_no_penalty_is_not_minus_zero() -> None:
    assert str(score(5, max_tokens=100, buffer_tokens=20)) == "0.0"


def test_a_buffer_that_leaves_no_length_free_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="buffer_tokens must be below max_tokens, which is 50"
    ):
        OverlongPenalty(max_tokens=50, buffer_tokens=50)
