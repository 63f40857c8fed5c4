"""Token by token: where two models come apart, and what that adds up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Answer, Arm, Comparison, Reading
from orchestrator.selectors.comparison_pairs import pairs_page
from orchestrator.selectors.comparison_readings import (
    kl_of,
    pieces_of,
    readable_pairs,
    reading_told,
    readings_shown,
)
from orchestrator.selectors.comparisons import comparison_get
from orchestrator.services.comparison_readings import unread_rows
from orchestrator.services.comparisons import comparison_create
from tests.orchestrator.answered import EXACT, ROWS, answers_put, checkpoint_make, dataset_make

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User


def answer(text: str, logps: list[float], ids: list[int] | None = None) -> Answer:
    return Answer(text=text, token_ids=ids or list(range(len(logps))), logps=logps)


def test_it_says_where_they_come_apart_first() -> None:
    told = reading_told(answer("abc", [-0.1, -0.2, -0.3]), [-0.5, -1.3, -9.0], "")
    assert told["apart"] == 1
    assert told["kl"] == pytest.approx(0.4 + 1.1 + 8.7)
    assert told["kl_per_token"] == pytest.approx(told["kl"] / 3)
    assert [token["text"] for token in told["tokens"]] == ["a", "b", "c"]
    assert reading_told(answer("ab", [-0.1, -0.2]), [-1.05, -0.2], "")["apart"] is None
    assert reading_told(answer("a", [-3.0]), [-0.1], "")["apart"] == 0, "in either direction"


def test_it_says_why_there_is_nothing_to_show() -> None:
    assert reading_told(answer("a", [-1.0]), [], "another vocabulary")["problem"] == (
        "another vocabulary"
    )
    assert "own log-probabilities" in reading_told(answer("a", []), [-1.0], "")["problem"]


def test_tokens_have_texts_only_where_these_are_sure() -> None:
    assert pieces_of(answer("ab", [0, 0])) == ["a", "b"]
    assert pieces_of(answer("ab", [0, 0, 0])) == ["a", "b", ""], "an end token has no text"
    assert pieces_of(answer("hello", [0, 0])) == ["", ""]
    told = reading_told(answer("hello", [-1.0, -1.0]), [-1.0, -1.0], "", ["hel", "lo"])
    assert [token["text"] for token in told["tokens"]] == ["hel", "lo"], "as its reader told"


def test_only_equal_vocabularies_can_be_read() -> None:
    arms = [
        Arm(name=name, position=place, digest=name, facts={"vocabulary": words} if words else {})
        for place, (name, words) in enumerate([("a", "v"), ("b", "v"), ("c", "w"), ("d", "")])
    ]
    pairs, problems = readable_pairs(arms)
    assert [(one.name, other.name) for one, other in pairs] == [("a", "b"), ("b", "a")]
    assert any("a and c have different vocabularies" in problem for problem in problems)
    assert any("a and d: their vocabularies are not known yet" in problem for problem in problems)


@pytest.fixture
def made(ada: User, settings: Any, tmp_path: Path) -> Comparison:
    settings.ANNEAL_DATA_DIR = tmp_path
    names = [f"checkpoint:{checkpoint_make(ada, name).pk}" for name in "ab"]
    comparison = comparison_create(
        owner=ada, checkpoints=names, prompts=[{"source": dataset_make(ada).pk}], scorers=[EXACT]
    )
    for arm in comparison.arms.all():
        answers_put(arm, lambda item, index: 1.0)
        arm.facts["vocabulary"] = "v"
        arm.save()
    found = comparison_get(comparison.pk)
    assert found is not None
    return found


@pytest.mark.django_db
def test_what_was_read_is_shown_beside_its_answer(made: Comparison) -> None:
    a, b = made.arms.all()
    for one in Answer.objects.filter(model=a.digest):
        Reading.objects.create(answer=one, model=b.digest, logps=[-2.0] * len(one.logps))
    shown, _ = pairs_page(made, per_page=5)
    told = readings_shown(made, shown)
    assert len(told) == 5, "one reading of A's answer to each prompt of the page"
    [kl] = kl_of(told, shown[0])
    tokens = len(shown[0]["arms"][0]["answers"][0]["text"])
    assert (kl["author"], kl["reader"], kl["answers"]) == ("a, step 10", "b, step 10", 1)
    assert kl["kl"] == pytest.approx(1.5 * tokens)


@pytest.mark.django_db
def test_only_what_is_unread_is_read(made: Comparison) -> None:
    a, b = made.arms.all()
    assert len(unread_rows(made, b, [a])) == len(ROWS)
    for one in Answer.objects.filter(model=a.digest).order_by("pk")[:5]:
        Reading.objects.create(answer=one, model=b.digest, logps=[])
    rows = unread_rows(made, b, [a])
    assert len(rows) == len(ROWS) - 5
    entry = rows[0]["_answers"][0]
    assert entry["model"] == a.digest and entry["vocabulary"] == "v" and entry["token_ids"]
