"""Prompts of evaluation sets are found however they are written, and instructions convict nobody."""

from __future__ import annotations

import pytest

from orchestrator.services.contamination import EvaluationPrompts, prompt_text

LONG = (
    "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in "
    "May so how many clips did she sell altogether in April and May"
)
PREFACE = (
    "You are a careful assistant who answers each question in one word and never explains why. "
)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("What is 2 + 2?", "exact"),
        ("what is  2 2", "normalised"),
        ("WHAT IS 2 + 2", "normalised"),
        ("What is 2 + 3?", ""),
        (LONG + ", if she began on the first day?", "overlap"),
        ("Count. " + LONG.upper(), "overlap"),
        (LONG[: len(LONG) // 2] + " " + "word " * 30, ""),
        ("", ""),
    ],
)
def test_what_is_found(prompt: str, why: str) -> None:
    assert EvaluationPrompts(["What is 2 + 2?", LONG]).why(prompt) == why


def test_a_shared_instruction_is_not_a_shared_question() -> None:
    known = EvaluationPrompts(PREFACE + f"Name city {n}" for n in range(20))
    assert known.why(PREFACE + "Name a river") == ""
    assert known.why(PREFACE + "Name city 7") == "exact"


def test_a_shared_instruction_hides_no_shared_question() -> None:
    rules = " ".join(f"rule{n}" for n in range(60))
    asked = [f"{rules} {' '.join(f'{word}{n}' for word in LONG.split())}" for n in range(20)]
    known = EvaluationPrompts(asked)
    assert known.why(asked[7] + " Thanks.") == "overlap"
    assert known.why(f"{rules} {LONG}") == ""


def test_without_sets_nothing_is_found() -> None:
    assert EvaluationPrompts([]).why(LONG) == ""


def test_chat_counts_by_what_the_user_says() -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    assert EvaluationPrompts([prompt_text(chat)]).why("What is 2 + 2?") == "exact"
    assert prompt_text([{"role": "system", "content": "x"}]) == "x"
