"""Playgrounds: what is refused and how, what reaches the trainer, and what it says is stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.models import Checkpoint, External, Played, Question, Run
from orchestrator.selectors.checkpoint_needs import children_of, needs_of
from orchestrator.selectors.inputs import inputs_of, needed_still
from orchestrator.selectors.playgrounds import (
    playground_shape,
    questions_of,
)
from orchestrator.selectors.wants import want_of
from orchestrator.services.ingest import PushError
from orchestrator.services.playgrounds import Full, playground_open, question_add
from orchestrator.services.runs import run_stop
from tests.orchestrator.playing import models_two, played, playground_ready
from tests.orchestrator.telemetry import push
from trainer.play import OPEN_MOST
from trainer.spec import SpecError

if TYPE_CHECKING:
    from orchestrator.models import Node, User

pytestmark = pytest.mark.django_db
ASK = {"prompt": "sort 21 ="}


@pytest.fixture
def ground(ada: User, node: Node) -> Run:
    return playground_ready(ada, node)


def ask(run: Run, user: User, **body: Any) -> Question:
    return question_add(run_id=run.pk, user=user, body={**ASK, **body})


def tell(run: Run, events: list[dict[str, Any]], **words: Any) -> None:
    push(run, events, source="samples", **words)


def only(run: Run) -> dict[str, Any]:
    run.refresh_from_db()
    (found,) = questions_of(run)
    return found


@pytest.mark.parametrize(
    ("models", "path", "sentence"),
    [
        (["one"], "play.models", "names 1"),
        (["one", "starter"], "play.models.1", "no trained model"),
        (["one", "checkpoint:aaaaaaaaaaaa"], "play.models.1", "there is no checkpoint:aaaa"),
        (["run:aaaaaaaaaaaa", "one"], "play.models.0", "there is no run:aaaa"),
        (["one", "external:aaaaaaaaaaaa"], "play.models.1", "there is no external:aaaa"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_its_field(
    ada: User, models: list[str], path: str, sentence: str
) -> None:
    with pytest.raises(SpecError) as caught:
        playground_open(owner=ada, models=models)
    assert [one.path for one in caught.value.problems] == [path]
    assert sentence in str(caught.value)
    assert not Run.objects.exists()


def test_a_hub_model_that_is_registered_at_a_revision_is_not_loaded_at_another(ada: User) -> None:
    fields = {"name": "base", "kind": "hub", "source": "NAME/BASE", "owner": ada}
    external = External.objects.create(revision="v2", **fields)
    with pytest.raises(SpecError, match=r"play\.models\.0: .*registered at the revision v2"):
        playground_open(owner=ada, models=[f"external:{external.pk}", "NAME/OTHER"])


def test_it_is_called_after_its_models_and_keeps_them(ada: User) -> None:
    models = models_two(ada)
    run = playground_open(owner=ada, models=models, idle_minutes=5)
    assert (run.name, run.kind, run.tags) == ("r, step 10 and r, step 20", "play", ["playground"])
    assert inputs_of(run)["models"].keys() == set(models)
    shape = playground_shape(run)
    assert [one["label"] for one in shape["models"]] == ["r, step 10", "r, step 20"]
    assert (shape["state"], shape["ready"], shape["idle_minutes"]) == ("queued", False, 5)
    Run.objects.exclude(pk=run.pk).update(state="finished")
    saved = list(Checkpoint.objects.all())
    ids = {one.pk for one in saved}
    assert needs_of(saved).keys() == ids, "no rule may take what it is to load"
    assert set(needed_still(ids, [])["checkpoints"]) == ids
    assert children_of(saved) == {}, "it makes nothing of them"
    run_stop(run_id=run.pk, user=ada)
    assert needs_of(saved) == {}


def test_a_question_reaches_its_trainer_until_it_is_answered(ground: Run, ada: User) -> None:
    assert want_of(ground, 1)["requests"] == []
    first, second = ask(ground, ada), ask(ground, ada, prompt="sort 43 =", temperature=0)
    wanted = want_of(ground, 1)["requests"]
    assert [one["id"] for one in wanted] == [first.pk, second.pk]
    assert (wanted[1]["prompt"], wanted[1]["temperature"], wanted[1]["voices"]) == (
        *("sort 43 =", 0),
        ["a", "b"],
    )
    assert [one["state"] for one in questions_of(ground)] == ["answering", "waiting"]
    tell(ground, [played(1, first.pk), played(2, first.pk, "b")])
    assert [one["id"] for one in want_of(ground, 1)["requests"]] == [second.pk]
    assert [one["state"] for one in questions_of(ground)] == ["answered", "answering"]
    assert [one["id"] for one in questions_of(ground, after=first.pk)] == [second.pk]
    assert [one["id"] for one in questions_of(ground, ids=[first.pk, 0])] == [first.pk]
    assert [one["id"] for one in questions_of(ground, limit=1)] == [second.pk], "the newest"


def test_a_training_is_asked_nothing(run: Run, ada: User) -> None:
    assert "requests" not in want_of(run, 1)
    with pytest.raises(Full, match="no playground"):
        ask(run, ada)


def test_answers_are_shown_token_by_token(ground: Run, ada: User) -> None:
    question = ask(ground, ada, samples=2, voices=["b", "a"])
    tell(ground, [played(1, question.pk, "a", 1), played(2, question.pk, "a", 0)])
    tell(ground, [played(3, question.pk, "b", 0, readings={"b": [-1, -2]})], first=3)
    found = only(ground)
    assert found["state"] == "answering", "one is missing"
    order = [(one["voice"], one["index"]) for one in found["answers"]]
    assert order == [("b", 0), ("a", 0), ("a", 1)], "in the order of the question"
    tokens = found["answers"][1]["tokens"]
    assert tokens[1] == {
        **{"id": 6, "text": "2", "logp": -0.25},
        "logps": {"a": -0.25, "b": "-Infinity"},
    }
    assert found["answers"][0]["tokens"][0]["logps"] == {"a": None, "b": -1.0}


def test_an_answer_that_comes_twice_is_there_once_and_the_first_one_stands(
    ground: Run, ada: User
) -> None:
    question = ask(ground, ada)
    tell(ground, [played(1, question.pk), played(2, question.pk, text="99")])
    tell(ground, [played(3, question.pk, "b"), played(4, question.pk, "b")], first=3)
    assert [one.text for one in Played.objects.order_by("voice")] == ["12", "12"]
    assert only(ground)["state"] == "answered"


def test_what_was_asked_of_another_playground_is_not_answered_here(
    ground: Run, ada: User, node: Node
) -> None:
    question = ask(ground, ada)
    other = playground_ready(ada, node, ["one", "two"])
    tell(other, [played(1, question.pk), played(2, 999_999)])
    assert not Played.objects.exists()


def test_more_than_was_asked_for_is_dropped(ground: Run, ada: User) -> None:
    question = ask(ground, ada, voices=["a"])
    tell(ground, [played(1, question.pk, "b"), played(2, question.pk, "a", 1)])
    assert not Played.objects.exists() and only(ground)["state"] == "answering"
    tell(ground, [played(3, question.pk, "a")], first=3)
    assert only(ground)["state"] == "answered"


def test_a_voice_that_cannot_speak_is_a_problem_and_no_answer(ground: Run, ada: User) -> None:
    question = ask(ground, ada)
    silent = {"text": "", "token_ids": [], "pieces": [], "logps": [], "readings": {}}
    cannot = {**silent, "finish_reason": "", "problem": "the prompt has no tokens"}
    tell(ground, [played(1, question.pk, **cannot), played(2, question.pk, "b")])
    found = only(ground)
    assert (found["state"], found["answers"][0]["problem"]) == (
        "answered",
        "the prompt has no tokens",
    )
    question = ask(ground, ada)
    tell(
        ground,
        [played(3, question.pk, **cannot), played(4, question.pk, "b", **cannot)],
        first=3,
    )
    assert questions_of(ground)[-1]["state"] == "failed"
    assert questions_of(ground)[-1]["problem"] == "the prompt has no tokens"


def test_what_an_ended_playground_did_not_answer_is_lost_and_it_takes_no_more(
    ground: Run, ada: User
) -> None:
    ask(ground, ada)
    Run.objects.filter(pk=ground.pk).update(state="finished")
    found = only(ground)
    assert found["state"] == "lost" and "ended before it answered" in found["problem"]
    assert playground_shape(ground)["open"] == 0
    with pytest.raises(Full, match="has ended"):
        ask(ground, ada)


def test_only_so_many_wait(ground: Run, ada: User) -> None:
    for _ in range(OPEN_MOST):
        ask(ground, ada)
    with pytest.raises(Full, match=f"{OPEN_MOST} questions wait already"):
        ask(ground, ada)
    assert playground_shape(ground)["open"] == OPEN_MOST


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"prompt": ""}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"voices": ["c"]}, "voices.0"),
        ({"voices": ["base"]}, "voices"),
        ({"voices": ["blend"], "blend": {"mode": "proxy"}}, "blend.mode"),
        ({"blend": {"weight": 9}, "voices": ["blend"]}, "blend.weight"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_faulty_question_names_its_field(
    ground: Run, ada: User, body: dict[str, Any], path: str
) -> None:
    with pytest.raises(SpecError) as caught:
        ask(ground, ada, **body)
    assert [one.path for one in caught.value.problems] == [path]
    assert not Question.objects.exists()


def test_only_its_owner_and_admins_ask(ground: Run, bob: User, alma: User) -> None:
    with pytest.raises(PermissionDenied):
        ask(ground, bob)
    assert ask(ground, alma, prompt="a\x00b").body["prompt"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"voice": "c"}, "voice"),
        ({"request": -1}, "request"),
        ({"index": 100}, "index"),
        ({"finish_reason": "never"}, "finish_reason"),
        ({"pieces": ["1"]}, "pieces"),
        ({"pieces": [1, 2]}, "piece"),
        ({"logps": [-1]}, "1 logps for 2 tokens"),
        ({"readings": {"c": [1, 2]}}, "readings"),
        ({"readings": {"a": [1]}}, "a reading holds one number"),
        ({"readings": {"a": ["x", 1]}}, "number"),
        ({"text": 5}, "text"),
    ],
)
def test_a_faulty_line_is_refused_and_nothing_of_its_push_stored(
    ground: Run, ada: User, fields: dict[str, Any], words: str
) -> None:
    question = ask(ground, ada)
    with pytest.raises(PushError, match=words):
        tell(ground, [played(1, question.pk), {**played(2, question.pk, "b"), **fields}])
    with pytest.raises(PushError, match="samples journal"):
        push(ground, [played(1, question.pk)], source="trainer")
    assert not Played.objects.exists()
