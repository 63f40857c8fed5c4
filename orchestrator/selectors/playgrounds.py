"""Playgrounds as people ask for them: which there are, what they load, what was asked and said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import ENDED, Question, Run, State
from orchestrator.selectors.externals import external_named
from orchestrator.selectors.inputs import checkpoint_named
from trainer.play import OPEN_MOST
from trainer.spec import EXTERNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import Played

KIND = "play"
VOICES = ("a", "b", "base")
"""What the models are called, in the order of `play.models`."""
READY = "play"
"""The phase in which a playground answers."""
QUESTIONS_MOST = 200
LOST = "The playground ended before it answered; ask again in another one."


def playground_get(run_id: str) -> Run | None:
    """One playground."""
    return Run.objects.select_related("owner", "node").filter(pk=run_id, kind=KIND).first()


def playgrounds_list(*, page: int = 1, per_page: int = 50) -> tuple[list[Run], int]:
    """One page of playgrounds, newest first, and how many there are."""
    found = Run.objects.filter(kind=KIND, archived=None).select_related("owner", "node")
    start = (page - 1) * per_page
    return list(found.order_by("-created", "pk")[start : start + per_page]), found.count()


def is_ready(run: Run) -> bool:
    """Whether its models are loaded and it answers."""
    return run.state == State.RUNNING and run.phase == READY


def open_count(run: Run) -> int:
    """Questions that wait for an answer."""
    return 0 if run.state in ENDED else Question.objects.filter(run=run, answered=None).count()


def playground_shape(run: Run) -> dict[str, Any]:
    """A playground as JSON."""
    spec = run.spec.get("play", {})
    return {
        "id": run.pk,
        "name": run.name,
        "owner": run.owner.get_username(),
        "created": run.created,
        "state": str(run.state),
        "reason": run.reason,
        "cause": run.cause,
        "ready": is_ready(run),
        "over": run.state in ENDED,
        "models": [
            model_shape(name, voice)
            for name, voice in zip(spec.get("models", []), VOICES, strict=False)
        ],
        "idle_minutes": spec.get("idle_minutes"),
        "open": open_count(run),
        "open_most": OPEN_MOST,
        "node": run.node.name if run.node else None,
    }


def model_shape(name: str, voice: str) -> dict[str, Any]:
    """One of its models: as it was named, and what people call it."""
    found: dict[str, Any] = {"voice": voice, "name": name, "label": name}
    found |= {"checkpoint": None, "external": None}
    if name.startswith(EXTERNAL_PREFIX):
        external = external_named(name)
        if external is not None:
            found |= {"label": external.name, "external": external.pk}
    elif (checkpoint := checkpoint_named(name)) is not None:
        label = f"{checkpoint.run.name}, step {checkpoint.step}"
        found |= {"label": label, "checkpoint": checkpoint.pk}
    return found


def questions_of(
    run: Run, *, after: int = 0, ids: Iterable[int] | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Questions as JSON, oldest first: the newest `limit` behind the id `after`, or just those with `ids`."""
    found = Question.objects.filter(run=run, pk__gt=after)
    if ids is not None:
        found = found.filter(pk__in=list(ids)[:QUESTIONS_MOST])
    found = found.select_related("by").prefetch_related("answers")
    some = list(found.order_by("-pk")[: min(limit, QUESTIONS_MOST)])
    waiting = Question.objects.filter(run=run, answered=None).order_by("pk")
    turn = waiting.values_list("pk", flat=True).first() if is_ready(run) else None
    return [question_shape(one, run, is_turn=one.pk == turn) for one in reversed(some)]


def question_shape(question: Question, run: Run, *, is_turn: bool = False) -> dict[str, Any]:
    """A question with its answers as JSON; `is_turn`: the playground works on it."""
    answers = sorted(question.answers.all(), key=_order_of(question))
    state, problem = _state(question, answers, run, is_turn)
    return {
        "id": question.pk,
        "asked": question.created,
        "by": question.by.get_username(),
        "question": question.body,
        "state": state,
        "problem": problem,
        "answers": [answer_shape(one) for one in answers],
    }


def answer_shape(answer: Played) -> dict[str, Any]:
    """An answer as JSON, token by token."""
    readings = {name: answer.readings.get(name) for name in ("a", "b")}
    return {
        "voice": answer.voice,
        "index": answer.index,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "problem": answer.problem,
        "tokens": [
            {
                "id": token,
                "text": answer.pieces[at] if answer.pieces else "",
                "logp": answer.logps[at] if answer.logps else None,
                "logps": {name: found[at] if found else None for name, found in readings.items()},
            }
            for at, token in enumerate(answer.token_ids)
        ],
    }


def _state(question: Question, answers: list[Played], run: Run, is_turn: bool) -> tuple[str, str]:
    if question.answered is not None:
        problems = list(dict.fromkeys(one.problem for one in answers if one.problem))
        if answers and all(one.problem for one in answers):
            return "failed", problems[0]
        return "answered", ""
    if run.state in ENDED:
        return "lost", LOST
    return ("answering" if is_turn else "waiting"), ""


def _order_of(question: Question) -> Any:
    voices = list(question.body.get("voices", ()))
    return lambda one: (voices.index(one.voice) if one.voice in voices else 9, one.index)
