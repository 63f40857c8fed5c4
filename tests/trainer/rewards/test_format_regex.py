"""The format-regex reward."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.registry import Answer
from trainer.rewards.format_regex import FormatRegex


def score(text: str, **knobs: Any) -> float | None:
    return FormatRegex(**knobs).score(Answer("", text, 5, "stop", {}))


def test_it_pays_when_the_whole_answer_matches() -> None:
    pattern = r"<think>.*</think>\s*<answer>.*</answer>"
    assert score("<think>a\nb</think>\n<answer>4</answer>\n", pattern=pattern) == 1.0
    assert score("well: <think>a</think><answer>4</answer>", pattern=pattern) == 0.0


def test_it_may_match_any_part() -> None:
    assert score("so: #### 18 it is", pattern=r"#### \d+", match="search") == 1.0
    assert score("so: #### 18 it is", pattern=r"#### \d+") == 0.0


def test_several_patterns_share_the_pay() -> None:
    knobs = {"pattern": "a", "also": ("b", "c", "d"), "match": "search"}
    assert score("a b", **knobs) == 0.5


def test_case_can_be_ignored() -> None:
    assert score("YES", pattern="yes") == 0.0
    assert score("YES", pattern="yes", ignore_case=True) == 1.0


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", "(?P<x>a)(?P<x>b)", "a" * 2001, ""])
def test_a_pattern_that_does_not_compile_is_refused_at_validation(pattern: str) -> None:
    with pytest.raises(ValidationError):
        FormatRegex(pattern=pattern)
    with pytest.raises(ValidationError):
        FormatRegex(pattern="a", also=("(",))


def test_a_pattern_that_explodes_is_given_up_and_counted() -> None:
    before = FormatRegex.counts["timeouts"]
    started = time.monotonic()
    assert score("a" * 5000 + "b", pattern="(a|a?)*(a|aa)*[cd]", match="search") is None
    assert time.monotonic() - started < 10
    assert FormatRegex.counts["timeouts"] == before + 1


def test_an_overlong_answer_gets_nothing() -> None:
    assert score("a" * 11, pattern="a+", most_characters=10) == 0.0
