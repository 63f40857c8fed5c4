"""Files of comparisons that were made elsewhere: both shapes, what is refused, nothing stored twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Answer, Arm, Comparison, Item, Score
from orchestrator.selectors.comparison_evidence import comparison_evidence
from orchestrator.selectors.comparisons import comparison_get, comparison_progress
from orchestrator.services.comparison_import import comparison_import
from orchestrator.services.comparisons import comparison_delete
from tests.orchestrator.answered import gsm8k_rows, imported

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db

QUESTION = {
    "question": "1 + 1?",
    "a": {"is_correct": True, "solution": "2"},
    "b": {"is_correct": False, "solution": "3"},
}


def said(prompt: str, arm: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "arm": arm, "text": "x", "scores": {"good": value}, **more}


def test_it_reads_one_row_a_question(ada: User) -> None:
    made = imported(ada, [QUESTION, {**QUESTION, "question": "2 + 2?", "ground_truth": "4"}])
    assert made.imported and made.name == "outside"
    assert [arm.name for arm in made.arms.all()] == ["a", "b"]
    assert list(made.items.values_list("number", "prompt")) == [(1, "1 + 1?"), (2, "2 + 2?")]
    assert made.items.get(number=2).row["answer"] == "4"
    found = comparison_progress(comparison_get(made.pk))
    assert (found.state, found.wanted, found.there, found.failed) == ("ready", 4, 4, 0)


def test_it_reads_one_row_an_answer(ada: User) -> None:
    rows = [
        said("p", "a", 0.5), said("p", "a", None, index=1, problem="timed out"),
        said("p", "b", 2), said("p", "b", -1.5, index=1),
        said("q", "a"), said("q", "a", index=1), said("q", "b"),
    ]  # fmt: skip
    made = imported(ada, rows)
    assert made.sampling == {"samples": 2}
    found = comparison_progress(comparison_get(made.pk))
    # b's second answer to q is not in the file: it is missing for good, like the one that timed out.
    assert (found.state, found.there, found.failed) == ("incomplete", 6, 2)
    assert set(Score.objects.values_list("problem", flat=True)) == {
        "",
        "timed out",
        "not in the file",
    }
    assert Score.objects.filter(value=-1.5).exists()


def test_it_gives_the_tables_of_four_real_models(ada: User) -> None:
    made = comparison_get(imported(ada, gsm8k_rows()).pk)
    evidence = comparison_evidence(made)
    means = {arm["name"]: round(arm["mean"] * 1319) for arm in evidence["arms"]}
    rows = gsm8k_rows()
    assert means == {
        model: sum(row[model]["is_correct"] for row in rows) for model in list(rows[0])[2:]
    }
    first = evidence["findings"][0]
    a, b = first["candidate"], first["baseline"]
    solved = [(row[a]["is_correct"], row[b]["is_correct"]) for row in rows]
    assert first["table"] == {
        "both": solved.count((True, True)),
        "candidate_only": solved.count((True, False)),
        "baseline_only": solved.count((False, True)),
        "neither": solved.count((False, False)),
    }
    assert len(evidence["findings"]) == 6
    assert {one["comparisons"] for one in evidence["findings"]} == {6}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "q"}], "row 1: no column holds an object with 'is_correct'"),
        ([QUESTION, {**QUESTION, "question": " "}], "row 2: question: is missing"),
        ([QUESTION, QUESTION], "row 2: a answers this prompt twice as number 0"),
        ([{**QUESTION, "b": {"is_correct": "yes"}}], "row 1: b.is_correct: yes is neither true"),
        ([{"question": "q", "a": {"is_correct": True}}], "answers of 1 models"),
        ([said("p", "a"), said("", "b")], "row 2: prompt: is missing"),
        ([said("p", "a", index=-1)], "row 1: index: must be a whole number"),
        ([said("p", "a", "good")], "row 1: scores.good: must be a number"),
        ([said("p", "a", 1e999)], "row 1: scores.good: must be finite"),
        ([{**said("p", "a"), "scores": {}}], "row 1: scores: must be an object"),
        ([{**said("p", "a"), "text": 3}], "row 1: text: must be the answer's text"),
        ([said("p", 7)], "row 1: arm: must be the name"),
        ([said("p", f"arm {number}") for number in range(7)], "answers of 7 models"),
    ],
)
def test_it_says_what_is_wrong_and_stores_nothing(
    ada: User, rows: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        imported(ada, rows)
    assert words in str(caught.value)
    assert not Comparison.objects.exists() and not Answer.objects.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.exe", b"x", "not a kind of file that can be read"),
        ("rows.jsonl", b"", "the file is empty"),
        ("rows.jsonl", b"{", "rows.jsonl:1: not JSON"),
    ],
)
def test_it_names_the_persons_own_file(ada: User, name: str, content: bytes, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        comparison_import(owner=ada, file=SimpleUploadedFile(name, content))
    assert words in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_the_same_file_twice_stores_its_answers_once(ada: User) -> None:
    one, other = imported(ada, [QUESTION]), imported(ada, [QUESTION], name="again")
    assert Answer.objects.count() == 2 and Score.objects.count() == 2
    comparison_delete(comparison_id=one.pk, user=ada)
    assert Answer.objects.count() == 2, "the other comparison still shows them"
    comparison_delete(comparison_id=other.pk, user=ada)
    assert not (Answer.objects.exists() or Item.objects.exists() or Arm.objects.exists())


def test_what_no_database_holds_is_made_visible(ada: User) -> None:
    made = imported(ada, [said("p\x00", "a", text="\ud800x"), said("p\x00", "b")])
    assert made.items.get().prompt == "p\ufffd"
    assert Answer.objects.filter(text="\ufffdx").exists()


def test_the_published_file_is_read_as_it_is(ada: User) -> None:
    sample = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
    rows = [json.loads(line) for line in sample.read_text().splitlines()]
    made = imported(ada, rows)
    assert made.arms.count() == 4 and made.items.count() == len(rows)
