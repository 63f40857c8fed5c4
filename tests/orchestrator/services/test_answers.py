"""What evaluation runs found is stored for comparisons once, and for those alone that asked."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from orchestrator.models import (
    Answer,
    Arm,
    ArmRun,
    Comparison,
    Item,
    Judgement,
    Reading,
    Run,
    Sample,
    Score,
    Stream,
)
from orchestrator.services import ingest
from tests.orchestrator.conftest import SPEC, attempt_add
from tests.orchestrator.telemetry import T0, answer, judgement, push, reading, sample
from trainer.answering import item_digest, sampling_digest, scorer_digests
from trainer.journal import read_events
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.models import Node, User

pytestmark = pytest.mark.django_db
ITEM, OTHER = "a" * 64, "c" * 64
MODEL, AUTHOR = "f" * 64, "b" * 64
EVALUATE = {
    "kind": "evaluate",
    "seed": 3,
    "evaluation": {"answers": "all", "temperature": 0.5, "max_new_tokens": 9},
}
SAMPLING = sampling_digest({"temperature": 0.5, "max_new_tokens": 9}, 3)


@pytest.fixture
def arms(ada: User) -> list[Arm]:
    """Two arms of a comparison with two items."""
    comparison = Comparison.objects.create(name="which", owner=ada)
    for number, digest in enumerate((ITEM, OTHER)):
        Item.objects.create(comparison=comparison, number=number, digest=digest, prompt="p")
    return [
        Arm.objects.create(comparison=comparison, position=place, name=name, digest=digest)
        for place, (name, digest) in enumerate((("one", MODEL), ("two", AUTHOR)))
    ]


@pytest.fixture
def tied(run: Run, arms: list[Arm]) -> Callable[..., Run]:
    """Tie the run to the first arm: `tied("readings")`."""

    def tie(purpose: str = "answers") -> Run:
        Run.objects.filter(pk=run.pk).update(spec={**SPEC, **EVALUATE})
        ArmRun.objects.create(arm=arms[0], run=run, purpose=purpose)
        run.refresh_from_db()
        return run

    return tie


def tell(run: Run, events: list[dict[str, Any]], **words: Any) -> None:
    push(run, events, source="samples", **words)


def status(seq: int, **data: Any) -> dict[str, Any]:
    head = {"seq": seq, "time": T0, "type": "status", "state": "starting", "phase": "load"}
    return {**head, "data": data}


def test_an_answer_is_stored_with_its_scores(tied: Callable[..., Run]) -> None:
    run = tied()
    scores = {"x": {"value": 0.5, "problem": ""}, "y": {"value": None, "problem": "hung"}}
    event = answer(1, ITEM, 2, scores=scores, scorers={"x": "1" * 64, "y": "2" * 64})
    tell(run, [event, answer(2, OTHER, problem="too long", token_ids=[], logps=[], scores={})])
    first, second = Answer.objects.order_by("pk")
    assert (first.model, first.sampling, first.item, first.index) == (MODEL, SAMPLING, ITEM, 2)
    assert (first.text, first.token_ids, first.logps) == ("2", [5, 6], [-0.5, -0.25])
    assert (first.tokens, first.finish_reason, first.run_id) == (2, "stop", run.pk)
    assert (second.problem, second.scores.count()) == ("too long", 0)
    found = Score.objects.order_by("scorer").values_list("answer", "scorer", "value", "problem")
    assert list(found) == [(first.pk, "1" * 64, 0.5, ""), (first.pk, "2" * 64, None, "hung")]


def test_the_journal_does_not_say_whose_answers_they_are(tied: Callable[..., Run]) -> None:
    tell(tied(), [answer(1, model=AUTHOR, sampling="9" * 64)])
    assert Answer.objects.values_list("model", "sampling").get() == (MODEL, SAMPLING)


def test_a_run_that_works_for_no_comparison_stores_nothing_of_it(run: Run, arms: list[Arm]) -> None:
    tell(run, [answer(1), reading(2), judgement(3), sample(4)])
    assert Stream.objects.get().cursor == 4 and Sample.objects.count() == 1
    assert not Answer.objects.exists() and not Reading.objects.exists()
    assert not Judgement.objects.exists() and not Score.objects.exists()


@pytest.mark.parametrize("purpose", ["answers", "readings", "judge"])
def test_a_run_stores_what_it_is_there_for(tied: Callable[..., Run], purpose: str) -> None:
    Answer.objects.create(model=AUTHOR, item=ITEM, sampling=SAMPLING, index=0, text="x")
    tell(tied(purpose), [answer(1), reading(2), judgement(3)])
    stored = (Answer.objects.count() - 1, Reading.objects.count(), Judgement.objects.count())
    assert stored == tuple(int(purpose == one) for one in ("answers", "readings", "judge"))


def test_an_arm_without_a_digest_has_no_answers_of_its_own(
    tied: Callable[..., Run], arms: list[Arm]
) -> None:
    Arm.objects.filter(pk=arms[0].pk).update(digest="")
    tell(tied(), [answer(1)])
    assert not Answer.objects.exists() and Stream.objects.get().cursor == 1


def test_what_is_there_already_stands(tied: Callable[..., Run]) -> None:
    run = tied()
    tell(run, [answer(1)])
    attempt_add(run, 2)
    again = answer(1, scores={"exact-match": {"value": 0.0}})
    more = answer(
        2, scores={"new": {"value": 0.25}, "exact-match": {"value": 0.0}},
        scorers={"new": "7" * 64, "exact-match": "e" * 64},
    )  # fmt: skip
    tell(run, [again, more, answer(3, OTHER)], attempt=2)
    assert Answer.objects.count() == 2
    mine = Score.objects.filter(answer__item=ITEM).order_by("scorer")
    assert list(mine.values_list("scorer", "value")) == [("7" * 64, 0.25), ("e" * 64, 1.0)]


def test_a_score_of_another_text_is_not_put_on_this_one(tied: Callable[..., Run]) -> None:
    run = tied()
    tell(run, [answer(1, scores={})])
    tell(run, [answer(2, text="3"), answer(3, token_ids=[5, 7])])
    assert Answer.objects.get().text == "2" and not Score.objects.exists()


def test_readings_are_of_the_authors_answers(tied: Callable[..., Run]) -> None:
    kept = Answer.objects.create(model=AUTHOR, item=ITEM, sampling=SAMPLING, index=1, text="x")
    Answer.objects.create(model=AUTHOR, item=ITEM, sampling="0" * 64, index=0, text="other way")
    run = tied("readings")
    told = reading(2, index=1, pieces=["a", "b\x00"])
    tell(run, [reading(1, index=0), told, reading(3, OTHER), reading(4, index=1)])
    found = Reading.objects.get()
    assert (found.answer_id, found.model, found.logps) == (kept.pk, MODEL, [-1.5, -0.75])
    assert found.pieces == ["a", "b\ufffd"]
    tell(run, [reading(5, index=1, logps=[], problem="another vocabulary")])
    assert Reading.objects.get().problem == ""


def test_judgements_speak_of_items_and_arms_of_the_comparison(
    tied: Callable[..., Run], arms: list[Arm], ada: User
) -> None:
    other = Comparison.objects.create(name="other", owner=ada)
    Arm.objects.create(comparison=other, position=0, name="stranger", digest=MODEL)
    Item.objects.create(comparison=other, number=0, digest="9" * 64, prompt="p")
    events = [
        judgement(1),
        judgement(2, left="two", right="one", outcome="", problem="nonsense", said="hm"),
        judgement(3, repeat=1, outcome="both-bad"),
        judgement(4, outcome="right"),
        judgement(5, left="stranger"),
        judgement(6, item="9" * 64),
        judgement(7, left="one", right="one"),
    ]
    tell(tied("judge"), events)
    fields = ("left__name", "right__name", "repeat", "outcome", "problem", "said")
    assert list(Judgement.objects.order_by("pk").values_list(*fields)) == [
        ("one", "two", 0, "left", "", "[[A]]"),
        ("one", "two", 1, "both-bad", "", "[[A]]"),
        ("two", "one", 0, "", "nonsense", "hm"),
    ]
    assert {found.comparison_id for found in Judgement.objects.all()} == {arms[0].comparison_id}


def test_the_vocabulary_of_a_model_is_kept_beside_its_arm(
    tied: Callable[..., Run], arms: list[Arm]
) -> None:
    Arm.objects.filter(pk=arms[0].pk).update(facts={"step": 7})
    run = tied()
    push(run, [status(1, vocabulary="d" * 64), status(2, vocabulary="no digest")])
    assert Arm.objects.get(pk=arms[0].pk).facts == {"step": 7, "vocabulary": "d" * 64}
    assert Arm.objects.get(pk=arms[1].pk).facts == {}


def test_a_failure_leaves_neither_answers_nor_cursor(
    tied: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tied()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(ingest, "_hints_send", fail)
    with pytest.raises(RuntimeError):
        tell(run, [answer(1)])
    monkeypatch.undo()
    assert not Answer.objects.exists() and not Stream.objects.exists()
    tell(run, [answer(1)])
    assert Answer.objects.count() == Score.objects.count() == 1


def stored() -> list[tuple[Any, ...]]:
    fields = ("answer__item", "answer__index", "answer__text", "scorer", "value")
    return list(Score.objects.order_by("answer__item", "answer__index").values_list(*fields))


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_loss_and_repetition_ends_equal(tied: Callable[..., Run], seed: int) -> None:
    """A client that loses, doubles and reorders pushes; and a second attempt that tells half of it anew."""
    run, chance, total = tied(), random.Random(seed), 24
    for attempt in (1, 2):
        if attempt == 2:
            attempt_add(run, 2)
        cursor, first = 0, 1 if attempt == 1 else total // 2
        events = [
            answer(seq, OTHER if number % 2 else ITEM, number, text=str(number))
            for seq, number in enumerate(range(first, total + first), start=1)
        ]
        while cursor < total:
            begin, frames = cursor + 1, []
            while begin <= total and len(frames) < 4:
                end = min(total, begin + chance.randint(0, 5))
                frames += [(begin, end)] * chance.choice([0, 1, 1, 2])
                begin = end + 1
            if chance.random() < 0.5:
                chance.shuffle(frames)
            for begin, end in frames:
                words = {"attempt": attempt, "source": "samples"}
                cursor = push(run, events[begin - 1 : end], **words).cursor
    last = total + total // 2 - 1
    expected = [(OTHER if n % 2 else ITEM, n, str(n), "e" * 64, 1.0) for n in range(1, last + 1)]
    assert stored() == sorted(expected)


@pytest.mark.django_db(transaction=True)
def test_two_runs_that_bring_the_same_answers_store_them_once(
    tied: Callable[..., Run], arms: list[Arm], ada: User, node: Node
) -> None:
    """In opposite orders, at the same time: neither waits for the other in a circle."""
    one = tied()
    two = Run.objects.create(name="two", owner=ada, spec=one.spec, attempt=1, node=node)
    attempt_add(two, 1)
    ArmRun.objects.create(arm=arms[0], run=two)
    failures: list[BaseException] = []

    def bring(run: Run, numbers: list[int]) -> None:
        try:
            for first in range(0, 60, 20):
                some = numbers[first : first + 20]
                tell(run, [answer(first + place + 1, ITEM, n) for place, n in enumerate(some)])
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    orders = (one, list(range(60))), (two, list(reversed(range(60))))
    threads = [threading.Thread(target=bring, args=args) for args in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert (Answer.objects.count(), Score.objects.count()) == (60, 60)


def evaluated(folder: Path, spec: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the trainer itself journals of an evaluation on these rows, by source."""
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = [{"source": "noisy-sort", "options": {"digits": 3}}]
    whole = {**spec, "data": {"train": train, "eval": [{"source": str(data)}]}}
    (folder / "spec.json").write_text(json.dumps(whole))
    command = ["-m", "trainer", "evaluate", str(folder / "spec.json"), "--dir", str(folder / "run")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    attempt = RunDir(folder / "run").attempt(1)
    return {source: list(read_events(attempt.journal(source))) for source in ("trainer", "samples")}


@pytest.mark.slow
def test_what_the_trainer_writes_is_found_by_the_digests_of_the_server(
    arms: list[Arm], run: Run, ada: User, node: Node, tmp_path: Path
) -> None:
    """Both sides name prompts, sampling and scorers alike, and one model's answers can be read by another."""
    rewards = [{"type": "exact-match", "name": "right"}, {"type": "log-likelihood"}]
    sampling = {"temperature": 0.5, "max_new_tokens": 4}
    spec: dict[str, Any] = {
        "kind": "evaluate",
        "seed": 3,
        "model": {"name": "starter", "options": {"hidden_size": 32, "layers": 1, "heads": 2}},
        "rewards": rewards,
        "evaluation": {"answers": "all", "samples_per_prompt": 2, **sampling},
        "resources": {"gpus": 0},
    }
    rows = [{"prompt": f"sort {digits} = ", "answer": digits} for digits in ("123", "456")]
    told = evaluated(tmp_path / "answers", spec, rows)
    Run.objects.filter(pk=run.pk).update(spec=spec)
    ArmRun.objects.create(arm=arms[0], run=run)
    for source, events in told.items():
        for first in range(0, len(events), 2):
            push(run, events[first : first + 2], source=source)
    found = Answer.objects.filter(model=MODEL, sampling=sampling_digest(sampling, 3))
    wanted = [(item_digest(row), index) for row in rows for index in (0, 1)]
    assert sorted(found.values_list("item", "index")) == sorted(wanted)
    for label, digest in scorer_digests(rewards).items():
        scores = Score.objects.filter(scorer=digest, problem="").values_list("value", flat=True)
        assert len(scores) == 4 and all(value is not None for value in scores), label
    vocabulary = Arm.objects.get(pk=arms[0].pk).facts["vocabulary"]

    carried = [
        {
            **row,
            "_answers": [
                {
                    "index": answer.index,
                    "model": MODEL,
                    "token_ids": answer.token_ids,
                    "vocabulary": vocabulary,
                }
                for answer in found.filter(item=item_digest(row))
            ],
        }
        for row in rows
    ]
    evaluation = {**spec["evaluation"], "answers": "none", "readings": True}
    spec = {**spec, "rewards": [], "evaluation": evaluation}
    told = evaluated(tmp_path / "readings", spec, carried)
    reader = Run.objects.create(name="reads", owner=ada, spec=spec, attempt=1, node=node)
    attempt_add(reader, 1)
    ArmRun.objects.create(arm=arms[1], run=reader, purpose="readings")
    push(reader, told["samples"], source="samples")
    assert Reading.objects.filter(model=AUTHOR, problem="").count() == 4
    for made in Reading.objects.select_related("answer"):
        # The same weights read them as they drew them.
        assert made.logps == pytest.approx(made.answer.logps, abs=1e-4)
