"""Playgrounds: two models that answer as you ask, and what they give together."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Field, Path, Query, Router, Schema

from orchestrator.api.access import OPERATORS, owned
from orchestrator.api.problems import Conflict, FieldsError
from orchestrator.api.runs import Key
from orchestrator.api.shapes import Listed, Number, Strict
from orchestrator.selectors import playgrounds as found
from orchestrator.services import playgrounds
from orchestrator.services.idempotency import once, request_digest
from orchestrator.services.runs import run_stop
from trainer.play import MOST, Blend, Question, Voice
from trainer.spec import SpecError

if TYPE_CHECKING:
    from orchestrator.models import Run

router = Router(tags=["playgrounds"])

PlaygroundId = Annotated[str, Path(max_length=12)]


class PlaygroundOpen(Strict):
    """Which models to load, named as `model.name` of a spec names one."""

    models: list[Annotated[str, Field(max_length=500)]] = Field(max_length=2 * MOST)
    """The two that are compared, and as a third one the base of proxy tuning."""
    idle_minutes: float | None = Field(None, gt=0, le=1440)
    """It ends when nobody has asked for so long; 15 by default."""
    name: str = Field("", max_length=120)
    gpus: Literal["auto"] | Annotated[int, Field(ge=0, le=1)] = "auto"
    priority: int = Field(0, ge=-1000, le=1000)


class PlayModelOut(Schema):
    """A model of a playground."""

    voice: Literal["a", "b", "base"]
    name: str
    label: str
    checkpoint: str | None
    external: str | None


class PlaygroundOut(Schema):
    """A playground: a run of kind "play", by the run's id."""

    id: str
    name: str
    owner: str
    created: datetime
    state: str
    reason: str
    cause: str
    ready: bool
    """Its models are loaded and it answers."""
    over: bool
    models: list[PlayModelOut]
    idle_minutes: float | None
    open: int
    """Questions that wait for an answer."""
    open_most: int
    node: str | None


class PlayTokenOut(Schema):
    """A token of an answer."""

    id: int
    text: str
    """What it adds to the text."""
    logp: Number | None
    """Under what it was drawn from."""
    logps: dict[Literal["a", "b"], Number | None]
    """Under each of the two models, at a temperature of 1 and with nothing left out."""


class PlayedOut(Schema):
    """An answer of one voice."""

    voice: Voice
    index: int
    text: str
    finish_reason: str
    problem: str
    tokens: list[PlayTokenOut]


class AskedOut(Schema):
    """The question as it was asked, defaults filled in."""

    prompt: str
    chat: bool
    voices: list[Voice]
    blend: Blend | None
    samples: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_new_tokens: int
    seed: int


class QuestionOut(Schema):
    """A question with the answers that are there."""

    id: int
    asked: datetime
    by: str
    question: AskedOut
    state: Literal["waiting", "answering", "answered", "failed", "lost"]
    problem: str
    answers: list[PlayedOut]


class QuestionsOut(Schema):
    """Questions, oldest first."""

    questions: list[QuestionOut]


@router.post("/playgrounds", auth=OPERATORS, response={201: PlaygroundOut})
def playground_open(
    request: HttpRequest,
    payload: PlaygroundOpen,
    response: HttpResponse,
    idempotency_key: Key = None,
) -> tuple[int, dict[str, Any]]:
    """Load two models, or three, on a node; it waits in the queue as any run."""
    fields = payload.model_dump()
    user = request.auth.user
    try:
        run = once(
            user=user,
            key=idempotency_key,
            request=request_digest(request.method, request.path, request.body),
            make=lambda: playgrounds.playground_open(owner=user, **fields),
        )
    except SpecError as error:
        raise FieldsError(playgrounds.problems_named(error)) from error
    response["Location"] = f"{request.path}/{run.pk}"
    return 201, found.playground_shape(_playground_or_404(run.pk))


@router.get("/playgrounds", response=Listed[PlaygroundOut])
def playground_list(
    request: HttpRequest,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 50,
) -> dict[str, Any]:
    """Playgrounds, newest first."""
    some, count = found.playgrounds_list(page=page, per_page=per_page)
    return {"items": [found.playground_shape(run) for run in some], "count": count}


@router.get("/playgrounds/{playground_id}", response=PlaygroundOut)
def playground_read(request: HttpRequest, playground_id: PlaygroundId) -> dict[str, Any]:
    """One playground."""
    return found.playground_shape(_playground_or_404(playground_id))


@router.post("/playgrounds/{playground_id}/stop", auth=OPERATORS, response=PlaygroundOut)
def playground_stop(request: HttpRequest, playground_id: PlaygroundId) -> dict[str, Any]:
    """End it and free its place; what was said stays."""
    owned(_playground_or_404(playground_id), request.auth)
    try:
        run_stop(run_id=playground_id, user=request.auth.user)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return found.playground_shape(_playground_or_404(playground_id))


@router.post("/playgrounds/{playground_id}/questions", auth=OPERATORS, response={201: QuestionOut})
def question_ask(
    request: HttpRequest, playground_id: PlaygroundId, payload: Question
) -> tuple[int, dict[str, Any]]:
    """Ask; while the models are loading, questions wait."""
    run = _playground_or_404(playground_id)
    owned(run, request.auth)
    try:
        asked = playgrounds.question_add(
            run_id=playground_id, user=request.auth.user, body=payload.model_dump(mode="json")
        )
    except SpecError as error:
        raise FieldsError(error.problems) from error
    except playgrounds.Full as error:
        raise Conflict(str(error)) from error
    return 201, found.question_shape(asked, run)


@router.get("/playgrounds/{playground_id}/questions", response=QuestionsOut)
def question_list(
    request: HttpRequest,
    playground_id: PlaygroundId,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    ids: Annotated[str, Query(max_length=2000, pattern=r"^[0-9, ]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=found.QUESTIONS_MOST)] = 50,
) -> dict[str, Any]:
    """The newest questions behind the id `after`, or just those with `ids` (numbers with commas)."""
    run = _playground_or_404(playground_id)
    wanted = [int(word) for word in ids.replace(",", " ").split()] if ids.strip() else None
    if wanted is not None:
        wanted = [one for one in wanted if one < 2**63]
    return {"questions": found.questions_of(run, after=after, ids=wanted, limit=limit)}


def _playground_or_404(run_id: str) -> Run:
    run = found.playground_get(run_id.replace("\x00", ""))
    if run is None:
        raise Http404("there is no such playground")
    return run
