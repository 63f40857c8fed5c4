"""The post-mortem of an attempt as JSON: what happened, when it began, what was still good, what to do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from ninja.errors import HttpError

from orchestrator.api.runs import run_or_404
from orchestrator.selectors.post_mortem import NoPostMortem, post_mortem_read
from orchestrator.selectors.post_mortem_text import HELP

router = Router(tags=["runs"])


def told(name: str) -> Any:
    """A field with the words that the page has for it."""
    return Field(..., description=HELP[name])


class SignalOut(Schema):
    """Something that was not as it should be; it need not be the cause."""

    kind: Literal["metric", "alert", "log", "node", "silence"]
    code: str
    level: str
    time: datetime
    """By the server's clock, as far as the difference to the node's is known."""
    step: int | None
    """The step that it belongs to, or the last one that was logged before it."""
    title: str
    text: str
    metric: str | None
    link: str | None
    """The place: a window of the charts, a line of the log, an event, the nodes."""


class KeptCheckpoint(Schema):
    """A checkpoint from which the run can go on."""

    id: str
    step: int
    attempt: int
    kept: bool
    """Whether it is still there."""
    saved_again: bool
    """Whether a later attempt saved this step again, in its place."""


class Healthy(Schema):
    """How far the attempt was healthy, and what is left of its work."""

    step: int | None
    """null where it logged no healthy step."""
    step_time: float | None
    """Unix time by the node's clock."""
    last_step: int | None
    """The last step that was done."""
    warm_up: bool
    """Whether these are steps of the warm-up."""
    began_at: int | None
    """The step that the attempt went on from."""
    checkpoint: KeptCheckpoint | None = told("checkpoint")
    lost_steps: int | None
    lost_seconds: float | None


class Outcome(Schema):
    """What was made of the end."""

    what: Literal["ended", "restarted", "rolled-back", "waits", "retried", "open"]
    next: int | None
    rolled_back_to: int | None
    words: str
    why: str
    """The reason that the server noted then."""


class PrintedLine(Schema):
    """A line of the log."""

    id: int | None
    time: float | None
    text: str


class Stack(Schema):
    """What a process or thread was doing."""

    title: str
    text: str


class Stall(Schema):
    """A stall that lasts, as its host saw it."""

    time: datetime
    message: str
    phase: str
    silent_s: float | None
    expected_s: float | None
    gpu: Any
    stacks_problem: str
    """Why there are none or fewer."""
    stacks: list[Stack]


class PostMortem(Schema):
    """What happened to an attempt that ended badly, or that is lost or stalled now."""

    run: str
    run_name: str
    attempt: int = told("attempt")
    attempts: int = told("attempts")
    others: list[int] = told("others")
    state: Literal["ended", "lost", "stalled"] = told("state")
    cause: str = told("cause")
    cause_words: str = told("cause_words")
    words: str = told("words")
    message: str = told("message")
    said_by: Literal["trainer", "host", "server", ""] = told("said_by")
    ended: datetime | None = told("ended")
    exit_code: int | None = told("exit_code")
    signal: str = told("signal")
    node: str | None = told("node")
    last_heard: datetime | None = told("last_heard")
    outcome: Outcome = told("outcome")
    healthy: Healthy = told("healthy")
    first: SignalOut | None = told("first")
    signals: list[SignalOut] = told("signals")
    signals_more: int
    looked_since: datetime = told("looked_since")
    log: list[PrintedLine] = told("log")
    log_from: Literal["log", "host", "none"]
    stall: Stall | None = told("stall")
    advice: list[str] = told("advice")
    link: str = told("link")
    markdown: str = told("markdown")


@router.get("/runs/{run_id}/post-mortem", response=PostMortem)
def run_post_mortem(
    request: HttpRequest,
    run_id: str,
    attempt: Annotated[
        int | None,
        Query(ge=0, lt=2**31, description="Its number; without one, the newest that ended badly."),
    ] = None,
) -> dict[str, Any]:
    """What happened to an attempt that ended badly, or that is lost or stalled now.

    Cause, last healthy step, first bad signal, what was made of it, last log lines, advice. 404 with a sentence
    where there is nothing to look into.
    """
    try:
        return post_mortem_read(run_or_404(run_id), attempt)
    except NoPostMortem as error:
        raise HttpError(404, str(error)) from error
