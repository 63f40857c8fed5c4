"""The length of an answer."""

from __future__ import annotations

from typing import Any

from trainer.registry import Answer
from trainer.rewards.answer_length import AnswerLength


def length(text: str, **knobs: Any) -> float:
    return AnswerLength(**knobs).score(Answer("", text, 7, "stop"))


def test_it_counts_tokens_characters_or_words() -> None:
    assert length("two  words\n") == 7
    assert length("two  words\n", of="characters") == 11
    assert length("two  words\n", of="words") == 2
    assert length("", of="words") == length("", of="characters") == 0


def test_neither_more_nor_less_is_better() -> None:
    assert AnswerLength.better == ""


def test_it_is_measured_and_adds_nothing_to_a_reward() -> None:
    assert AnswerLength().weight == 0
