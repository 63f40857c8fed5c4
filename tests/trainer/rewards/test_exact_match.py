"""The exact-match reward."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.registry import Answer
from trainer.rewards.exact_match import ExactMatch


def score(text: str, row: dict[str, Any], *, finish: str = "stop", **knobs: Any) -> float | None:
    return ExactMatch(**knobs).score(Answer("", text, 3, finish, row))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"), [("42", 1.0), (" 42\n", 1.0), ("43", 0.0), ("42.", 0.0), ("", 0.0)]
)
def test_it_pays_for_the_reference_and_nothing_else(text: str, expected: float) -> None:
    assert score(text, {"answer": "42"}) == expected


def test_white_space_and_case_count_when_asked() -> None:
    assert score(" 42", {"answer": "42"}, strip=False) == 0.0
    assert score("Yes", {"answer": "yes"}) == 0.0
    assert score("Yes", {"answer": "yes"}, ignore_case=True) == 1.0


def test_an_answer_that_ran_into_the_limit_gets_nothing_unless_allowed() -> None:
    assert score("42", {"answer": "42"}, finish="length") == 0.0
    assert score("42", {"answer": "42"}, finish="length", needs_stop=False) == 1.0


def test_the_reference_may_be_a_number_or_in_another_column() -> None:
    assert score("42", {"answer": 42}) == 1.0
    assert score("42", {"gold": "42"}, column="gold") == 1.0


def test_a_row_without_a_reference_is_not_scored() -> None:
    assert score("42", {}) is None


def test_its_label_is_its_type_unless_it_has_a_name() -> None:
    assert ExactMatch().label == "exact-match"
    assert ExactMatch(name="right").label == "right"
