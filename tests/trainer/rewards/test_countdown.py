"""The countdown reward."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.registry import Answer
from trainer.rewards.countdown import Countdown

ROW = {"numbers": [7, 2, 5], "target": 4}


def score(text: str, row: dict[str, Any] = ROW, finish: str = "stop", **knobs: Any) -> float | None:
    return Countdown(**knobs).score(Answer("", text, 5, finish, row))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["7+2-5", "2-5+7", " 7-5+2\n"])
def test_any_expression_that_hits_is_right(text: str) -> None:
    assert score(text) == 1.0


def test_the_right_form_that_misses_earns_a_little() -> None:
    assert score("7-2-5") == 0.1
    assert score("7-2-5", form_pay=0.0) == 0.0


@pytest.mark.parametrize(
    "text", ["4", "7+2", "7+2+5-5", "7+2-5=4", "-5+7+2", "7*2", "7++2-5", "", "7+2-5.", "77+2-5"]
)
def test_anything_else_earns_nothing(text: str) -> None:
    assert score(text) == 0.0


def test_a_cut_off_answer_earns_nothing() -> None:
    assert score("7+2-5", finish="length") == 0.0


def test_a_row_without_numbers_is_not_scored() -> None:
    assert score("7+2-5", row={}) is None
