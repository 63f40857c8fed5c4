"""Judges of a comparison: what is asked, never twice, what waits, what is told when it cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Answer, ArmRun, Comparison, Dataset, Judgement, Run, State
from orchestrator.selectors.comparisons import comparison_get
from orchestrator.selectors.datasets import dataset_path
from orchestrator.selectors.judge_figures import judges_shape
from orchestrator.services.judges import judge_add, judge_ask, judge_remove, judges_settle
from tests.orchestrator.compared import compared, judged
from trainer.answering import item_digest, judge_digest
from trainer.spec import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
KNOBS = {"url": "http://127.0.0.1:9/v1", "model": "wise"}
DIGEST = judge_digest({"type": "pairwise-judge", **KNOBS})


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def comparison(ada: User) -> Comparison:
    return compared(ada, items=4)


def runs_of(comparison: Comparison) -> list[Run]:
    ties = ArmRun.objects.filter(arm__comparison=comparison, purpose="judge").order_by("pk")
    return [tie.run for tie in ties.select_related("run")]


def rows_of(run: Run) -> list[dict[str, Any]]:
    file = dataset_path(Dataset.objects.get(pk=run.spec["data"]["eval"][0]["source"]))
    return [json.loads(line) for line in file.read_text().splitlines()]


def ended(comparison: Comparison, state: str = State.FINISHED, reason: str = "") -> None:
    keys = [run.pk for run in runs_of(comparison)]
    Run.objects.filter(pk__in=keys).update(state=state, reason=reason, process="exited")


def shape(comparison: Comparison) -> dict[str, Any]:
    found = comparison_get(comparison.pk)
    assert found is not None
    return judges_shape(found)[0]


def says(comparison: Comparison, number: int, outcome: str, back: str = "", **more: Any) -> None:
    """In both orders: the baseline shown first, then the other way round."""
    words = {"judge": DIGEST, **more}
    told = {"left": "right", "right": "left"}
    judged(comparison, number, outcome, ("base", "tuned"), **words)
    judged(comparison, number, back or told.get(outcome, outcome), ("tuned", "base"), **words)


def test_one_run_asks_about_every_pair(comparison: Comparison) -> None:
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    (run,) = runs_of(comparison)
    assert run.spec["evaluation"]["judge"]["model"] == "wise" and run.kind == "evaluate"
    assert judge_digest(run.spec["evaluation"]["judge"]) == DIGEST
    rows = rows_of(run)
    assert [item_digest(row) for row in rows] == sorted(
        comparison.items.values_list("digest", flat=True)
    )
    (entry,) = rows[0]["_pairs"]
    texts = dict(Answer.objects.filter(item=item_digest(rows[0])).values_list("model", "text"))
    base, tuned = comparison.arms.order_by("position")
    assert entry == {
        "index": 0, "left": "base", "right": "tuned",
        "left_text": texts[base.digest], "right_text": texts[tuned.digest],
    }  # fmt: skip
    found = shape(comparison)
    assert (found["state"], found["live"]) == ("waiting", True)
    assert found["pairs"]["wanted"] == 4 and found["pairs"]["there"] == 0


def test_nothing_is_asked_twice(comparison: Comparison) -> None:
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    assert len(runs_of(comparison)) == 1, "one is at work"
    with pytest.raises(ValueError, match="at work"):
        judge_ask(comparison_id=comparison.pk, digest=DIGEST)
    ended(comparison, State.FAILED, "the judge went away")
    says(comparison, 0, "right")
    judged(comparison, 1, "left", ("tuned", "base"), judge=DIGEST)
    assert "the judge went away" in shape(comparison)["reason"]
    assert shape(comparison)["state"] == "incomplete"
    judge_ask(comparison_id=comparison.pk, digest=DIGEST)
    rows = rows_of(runs_of(comparison)[1])
    assert len(rows) == 3, "one pair has its verdict"
    (said,) = [row["_pairs"][0]["said"] for row in rows if "said" in row["_pairs"][0]]
    assert said == [{"left": "tuned", "repeat": 0}]


def test_more_repeats_ask_for_those_alone(comparison: Comparison) -> None:
    warm = {**KNOBS, "temperature": 0.5}
    digest = judge_digest({"type": "pairwise-judge", **warm})
    judge_add(comparison_id=comparison.pk, knobs=warm)
    for number in range(4):
        says(comparison, number, "tie", judge=digest)
    ended(comparison)
    assert shape(comparison)["state"] == "ready"
    judge_add(comparison_id=comparison.pk, knobs={**warm, "repeats": 2})
    assert len(comparison_get(comparison.pk).judges) == 1  # type: ignore[union-attr]
    said = rows_of(runs_of(comparison)[1])[0]["_pairs"][0]["said"]
    assert said == [{"left": "base", "repeat": 0}, {"left": "tuned", "repeat": 0}]


def test_what_was_said_in_another_comparison_is_taken_over(ada: User) -> None:
    first = compared(ada, items=3)
    for number in range(2):
        says(first, number, "right", said="because")
    judged(first, 2, "", judge=DIGEST, problem="no verdict")
    second = compared(ada, items=3)
    for one, other in zip(first.arms.all(), second.arms.all(), strict=True):
        Answer.objects.filter(model=other.digest).delete()
        other.digest = one.digest
        other.save()
    judge_add(comparison_id=second.pk, knobs=KNOBS)
    assert len(rows_of(runs_of(second)[0])) == 1, "what failed there is asked here"
    taken = Judgement.objects.filter(comparison=second)
    assert taken.count() == 4 and set(taken.values_list("said", flat=True)) == {"because"}
    third = compared(ada, items=3)
    for one, other in zip(first.arms.all(), third.arms.all(), strict=True):
        other.digest = one.digest
        other.save()
    Comparison.objects.filter(pk=third.pk).update(seed=5)
    judge_add(comparison_id=third.pk, knobs=KNOBS)
    assert not Judgement.objects.filter(comparison=third).exists(), "other answers"


def test_a_judge_waits_until_the_answers_are_there(ada: User) -> None:
    def half(arm: str, number: int, index: int) -> str | None:
        return None if arm == "tuned" and number else f"{arm} {number}"

    comparison = compared(ada, items=2, text=half)
    run = Run.objects.create(name="r", owner=ada, spec={}, state=State.RUNNING)
    tuned = comparison.arms.get(name="tuned")
    ArmRun.objects.create(arm=tuned, run=run, purpose="answers")
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    assert runs_of(comparison) == [] == judges_settle()
    assert shape(comparison)["state"] == "waiting" and "answers" in shape(comparison)["reason"]
    sampling = Answer.objects.filter(model=tuned.digest).get().sampling
    item = comparison.items.get(number=1)
    Answer.objects.create(
        model=tuned.digest, item=item.digest, sampling=sampling, index=0, problem="too long"
    )
    assert len(judges_settle()) == 1 and judges_settle() == []
    assert shape(comparison)["pairs"] == {
        "wanted": 1, "there": 0, "failed": 0, "identical": 0, "unanswered": 1,
    }  # fmt: skip


def test_pairs_are_chosen_by_name(ada: User) -> None:
    comparison = compared(ada, ("base", "one", "two"), items=2)
    judge_add(comparison_id=comparison.pk, knobs=KNOBS, left="two", right="one")
    sides = {
        (e["left"], e["right"]) for row in rows_of(runs_of(comparison)[0]) for e in row["_pairs"]
    }
    assert sides == {("one", "two")}
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    assert len(runs_of(comparison)) == 1, "further pairs wait until it has ended"
    ended(comparison)
    assert len(judges_settle()) == 1
    added = [len(row["_pairs"]) for row in rows_of(runs_of(comparison)[1])]
    assert added == [3, 3], "nothing was said of the first pair yet, so it is asked again"


@pytest.mark.parametrize(
    ("words", "path", "message"),
    [
        ({"url": "ftp://host/v1"}, "url", "must begin with http"),
        ({"url": "http://169.254.169.254/v1"}, "url", "link-local or metadata"),
        ({"url": "http://metadata.google.internal/v1"}, "url", "link-local or metadata"),
        ({"model": ""}, "model", "at least 1"),
        ({"key_variable": "HOME"}, "key_variable", "begins with ANNEAL_JUDGE_"),
        ({"repeats": 3}, "repeats", "raise temperature"),
        ({"nothing": 3}, "nothing", "not permitted"),
        ({"left": "base"}, "right", "name both"),
        ({"left": "base", "right": "x"}, "right", "there is no model 'x'"),
        ({"left": "base", "right": "base"}, "right", "another model"),
    ],
)
def test_it_names_the_field_that_is_wrong(
    comparison: Comparison, words: dict[str, Any], path: str, message: str
) -> None:
    sides = {name: words.pop(name) for name in ("left", "right") if name in words}
    with pytest.raises(SpecError) as caught:
        judge_add(comparison_id=comparison.pk, knobs={**KNOBS, **words}, **sides)
    found = {one.path: one.message for one in caught.value.problems}
    assert message in found[path]
    assert not runs_of(comparison) and comparison_get(comparison.pk).judges == []  # type: ignore[union-attr]


def test_failed_pairs_stand_apart_and_can_be_asked_again(ada: User) -> None:
    comparison = compared(ada, items=30)
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    for number in range(28):
        says(comparison, number, "right")
    for number in (28, 29):
        problem = f"the judge's last line is no verdict: '{number}'"
        says(comparison, number, "", problem=problem)
    ended(comparison)
    found = shape(comparison)
    assert (found["state"], found["reason"][:15]) == ("incomplete", "2 of 30 pairs g")
    assert found["pairs"] | {"identical": 0} == {
        "wanted": 30, "there": 28, "failed": 2, "identical": 0, "unanswered": 0,
    }  # fmt: skip
    assert found["why"] == {"the judge's last line is no verdict": 4}
    (one,) = found["findings"]
    assert one["win_rate"]["share"] == 1 and one["win_rate"]["count"] == 28
    assert (one["candidate"], one["verdict"]["word"]) == ("tuned", "better")
    assert "2 failed items" in one["verdict"]["caution"]
    judge_ask(comparison_id=comparison.pk, digest=DIGEST, failed=True)
    assert len(rows_of(runs_of(comparison)[1])) == 2
    assert shape(comparison)["pairs"]["failed"] == 0


def test_a_judge_that_likes_the_first_answer_decides_nothing(ada: User) -> None:
    comparison = compared(ada, items=40)
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    for number in range(40):
        says(comparison, number, "left", back="left")
    ended(comparison)
    found = shape(comparison)
    assert found["order"]["share"] == 1 and found["first"]["share"] == 1
    assert found["findings"][0]["verdict"]["word"] == "not enough data", "of 40"
    assert found["findings"][0]["tie"]["share"] == 1 and found["state"] == "ready"


def test_equal_answers_are_ties_without_a_question(ada: User) -> None:
    comparison = compared(ada, items=3, text=lambda arm, number, index: f"same {number}")
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    found = shape(comparison)
    assert runs_of(comparison) == [] and found["pairs"]["identical"] == 3
    assert found["state"] == "ready" and "nothing to ask" in found["reason"]
    assert found["findings"][0]["counts"]["identical"] == 3


def test_a_removed_judge_takes_its_verdicts_along(comparison: Comparison, ada: User) -> None:
    judge_add(comparison_id=comparison.pk, knobs=KNOBS)
    says(comparison, 0, "tie")
    judged(comparison, 0, "tie")
    judge_remove(comparison_id=comparison.pk, digest=DIGEST, user=ada)
    assert Judgement.objects.count() == 1 and not ArmRun.objects.exists()
    assert Run.objects.get().state in (State.STOPPED, State.STOPPING)
    assert comparison_get(comparison.pk).judges == []  # type: ignore[union-attr]
    with pytest.raises(KeyError):
        judge_remove(comparison_id=comparison.pk, digest=DIGEST, user=ada)
