"""Comparisons made elsewhere become arms; what is wrong with a row is told by its number and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.evidence import findings, outside_read

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
MODELS = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]


def row(question: str = "1 + 1?", **models: Any) -> dict[str, Any]:
    return {"question": question, "ground_truth": "2", **models}


def mark(right: Any, solution: Any = "it is 2") -> dict[str, Any]:
    return {"is_correct": right, "solution": solution}


def test_real_solutions_of_four_models() -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    found = outside_read(rows)
    assert [arm.name for arm in found.arms.arms] == MODELS
    assert len(found.arms.prompts) == 200
    for model in MODELS:
        assert found.arms[model].scores[0, :, 0].tolist() == [
            float(r[model]["is_correct"]) for r in rows
        ]
        assert found.answers[model] == tuple(r[model]["solution"] for r in rows)
    assert found.gold[0] == rows[0]["ground_truth"]
    assert {each.table.prompts for each in findings(found.arms, resamples=200) if each.table} == {
        200
    }


def test_a_missing_solution_is_a_failed_item_with_its_reason() -> None:
    found = outside_read(
        [
            row(a=mark(True), b=mark(False)),
            row("2?", a=mark(None), b=mark(True)),
            row("3?", a=mark(False)),
        ]
    )
    scores = found.arms["a"].scores[0, :, 0]
    assert scores[0] == 1.0
    assert np.isnan(scores[1])
    pair = found.arms.pair("a", "b")
    assert pair.left_out.why == {"a: no solution": 1, "b: no solution": 1}
    assert found.answers["b"] == ("it is 2", "it is 2", "")


def test_a_repeated_question_keeps_a_name_of_its_own() -> None:
    found = outside_read([row(a=mark(True), b=mark(False)), row(a=mark(True), b=mark(True))])
    assert found.arms.prompts == ("1 + 1?", "1 + 1? (2)")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "there are none"),
        ([row(a=mark(True))], "1 models have is_correct"),
        ([row(a=mark(True), b=mark("yes"))], "row 1: is_correct of 'b' is 'yes'"),
        ([row(a=mark(True), b=mark(1))], "give true, false or null"),
        ([row(a=mark(True), b=mark(True)), row("  ", a=mark(True))], "row 2: question"),
        (["text"], "row 1: give an object"),
    ],
)
def test_bad_rows_are_told_in_words(rows: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        outside_read(rows)
