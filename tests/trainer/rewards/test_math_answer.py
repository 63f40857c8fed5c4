"""The math-answer reward."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.registry import Answer
from trainer.rewards import _symbolic
from trainer.rewards._final_answer import last_number, marked_answer, number_of
from trainer.rewards.math_answer import MathAnswer

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"


def score(text: str, reference: Any, *, finish: str = "stop", **knobs: Any) -> float | None:
    answer = Answer("", text, 5, finish, {"answer": reference})  # type: ignore[arg-type]
    return MathAnswer(**knobs).score(answer)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("16 - 3 = 13\n#### 18", "She makes 9 * 2 = 18.\n#### 18"),
        ("A: 18", 18),
        ("A: $18.00", "18"),
        ("so she earns $18.", "18"),
        ("**Answer: 18 dollars per day**", "18"),
        ("The answer is 18 kilometers.", "18"),
        (r"thus \boxed{18}", "18"),
        (r"\boxed{1}, or rather \boxed{\text{18 apples}}", "18"),
        ("#### 1,234,567", "1234567"),
        (r"\boxed{1{,}234}", "1234"),
        (r"\boxed{\dfrac{3}{4}}", "0.75"),
        ("A: 3/4", r"\frac{3}{4}"),
        ("A: 1 1/2 hours", "1.5"),
        (r"\boxed{1\frac{1}{2}}", "3/2"),
        ("A: 50%", "0.5"),
        ("A: 50%", "50"),
        ("A: 0.5", r"50\%"),
        ("A: \u22127", "-7"),
        ("5 - 12 = -7", "-7"),
        ("that is 16-9", "9"),
        ("A: 2.5e3", "2500"),
        ("A: .5", "0.50"),
        (r"\boxed{\text{Monday}}", "monday"),
        (r"\boxed{(2, 3)}", "(2,3)"),
    ],
)
def test_it_pays_for_the_right_answer_however_it_is_written(text: str, reference: Any) -> None:
    assert score(text, reference, symbolic=False) == 1.0


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("#### 18", "19"),
        ("A: 5 or 6", "5"),
        ("A: 2pi", "2"),
        (r"\boxed{2\sqrt{2}}", "2"),
        ("no number at all", "5"),
        ("", "5"),
        ("A: 0.5%", "50%"),
        ("A: 0.333", "1/3"),
        ("A: 1/0", "1"),
        ("A: 12,34", "1234"),
        ("A: " + "9" * 400, "9"),
        ("A: 1e99999999", "1"),
    ],
)
def test_it_pays_nothing_for_another_answer(text: str, reference: Any) -> None:
    assert score(text, reference, symbolic=False) == 0.0


def test_an_answer_that_ran_into_the_limit_gets_nothing_unless_allowed() -> None:
    assert score("A: 18", "18", finish="length") == 0.0
    assert score("A: 18", "18", finish="length", needs_stop=False) == 1.0


def test_a_row_without_a_reference_is_not_scored() -> None:
    assert score("A: 18", None) is None
    assert MathAnswer().score(Answer("", "A: 1", 5, "stop", {})) is None


def test_a_mark_can_be_required() -> None:
    assert score("it is 18", "18") == 1.0
    assert score("it is 18", "18", marked=True) == 0.0
    assert score("#### 18", "18", marked=True) == 1.0


def test_a_tolerance_is_relative_to_the_reference() -> None:
    assert score("A: 0.333", "1/3", tolerance=0.01) == 1.0
    assert score("A: 0.3", "1/3", tolerance=0.01) == 0.0


def test_the_reference_may_be_in_another_column() -> None:
    answer = Answer("", "A: 3", 5, "stop", {"solution": "#### 3"})
    assert MathAnswer(column="solution").score(answer) == 1.0


@given(st.fractions(max_denominator=10**6), st.booleans())
def test_a_fraction_equals_itself_and_not_its_neighbour(value: Any, latex: bool) -> None:
    sign, top, under = ("-" if value < 0 else ""), abs(value.numerator), value.denominator
    text = f"{sign}\\frac{{{top}}}{{{under}}}" if latex else f"{sign}{top}/{under}"
    number, other = number_of(text), number_of(str(value + 1))
    assert number is not None and other is not None
    assert number.value == value
    assert not number.equals(other)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    marked_answer(text)
    number_of(text)
    last_number(text)
    assert score(text, "18", symbolic=False) in (0.0, 1.0)


def test_a_hostile_text_is_read_in_no_time() -> None:
    began = time.process_time()
    for text in ("1 " * 9999, "\\boxed{" * 3000, "a " * 9999 + "!", "-" * 19999, "\\frac" * 4000):
        score(text, "18", symbolic=False)
        score("#### 5 " + text.replace("\n", " "), "18", symbolic=False)
    assert time.process_time() - began < 2


def test_it_agrees_with_the_published_grades_of_real_answers() -> None:
    checked = 0
    for line in SAMPLE.read_text().splitlines():
        row = json.loads(line)
        for graded in row.values():
            if isinstance(graded, dict):
                expected = float(graded["is_correct"])
                assert score(graded["solution"], row["ground_truth"], symbolic=False) == expected
                checked += 1
    assert checked == 800


@pytest.mark.slow
def test_expressions_are_compared_by_what_they_mean() -> None:
    assert score(r"\boxed{x^2+2x+1}", "(x+1)^2") == 1.0
    assert score(r"\boxed{x^2+2x+2}", "(x+1)^2") == 0.0
    assert score(r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}") == 1.0
    assert score(r"\boxed{" + "x+" * 400 + "x}", "y") == 0.0


@pytest.mark.slow
def test_an_expression_that_takes_too_long_is_not_scored_and_counted() -> None:
    worker = _symbolic.Worker()
    try:
        assert worker.equal("x+x", "2x") is True
        before = _symbolic.COUNTS["timeouts"]
        assert worker._process is not None
        worker._process.send_signal(19)  # SIGSTOP: a process that notices nothing any more
        started = time.monotonic()
        assert worker.equal("x", "y") is None
        assert time.monotonic() - started < 10
        assert _symbolic.COUNTS["timeouts"] == before + 1
        assert worker.equal("x+x", "2x") is True
    finally:
        worker.close()


@pytest.mark.slow
def test_the_worker_gives_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = _symbolic.Worker()
    try:
        worker.equal("x", "x")
        first = worker._process
        before = _symbolic.COUNTS["timeouts"]
        assert worker.equal(r"\prod_{i=1}^{900000} (1+\frac{1}{i^2+x})", "x") in (None, False)
        assert worker._process is first or _symbolic.COUNTS["timeouts"] > before
    finally:
        worker.close()
