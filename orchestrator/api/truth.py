"""The truth panel as JSON: how the telemetry of a run travelled, and why the run is shown as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from orchestrator.api.runs import run_or_404
from orchestrator.selectors.truth import truth_read
from orchestrator.selectors.truth_words import HELP

router = Router(tags=["telemetry"])


def told(name: str) -> Any:
    """A field with the words that the panel has for it."""
    return Field(..., description=HELP[name])


class Verdict(Schema):
    """Whether everything has arrived, in a sentence."""

    level: Literal["good", "live", "warning", "none"] = told("verdict_level")
    words: str = told("verdict_words")


class StateFacts(Schema):
    """The shown state, and the five facts that it is made of."""

    shown: str = told("shown")
    why: str = told("why")
    reason: str = told("reason")
    desired: str = told("desired")
    process: str = told("process")
    contact: str = told("contact")
    phase: str = told("phase")
    data: str = told("data")
    meanings: dict[str, str] = told("meanings")


class Heartbeat(Schema):
    """Who spoke when, and what was promised."""

    last_contact: datetime | None = told("last_contact")
    contact_until: datetime | None = told("contact_until")
    trainer_spoke: datetime | None = told("trainer_spoke")
    promised_s: float | None = told("promised_s")
    due: datetime | None = told("due")
    overdue_s: float | None = told("overdue_s")
    ship_spoke: datetime | None = told("ship_spoke")
    promise: str = told("promise")


class Clock(Schema):
    """The difference of the clocks of node and server."""

    measured: bool = told("clock_measured")
    offset_s: float | None = told("clock_offset_s")
    within_s: float | None = told("clock_within_s")
    correction_s: float = told("clock_correction_s")
    words: str = told("clock_words")


class StreamTruth(Schema):
    """One journal of the attempt."""

    source: str
    name: str
    stored: int = told("stored")
    known: int = told("known")
    missing: int = told("missing")
    missing_are: str = told("missing_are")
    repeated_lines: int = told("repeated_lines")
    repeated_pushes: int = told("repeated_pushes")
    early_lines: int = told("early_lines")
    early_pushes: int = told("early_pushes")
    refused_pushes: int = told("refused_pushes")
    refused_why: str = told("refused_why")
    pushes: int = told("pushes")
    received: datetime | None = told("received")
    lag_p50_s: float | None = told("lag_p50_s")
    lag_p95_s: float | None = told("lag_p95_s")
    lag_pushes: int = told("lag_pushes")
    spool_lines: int | None = told("spool_lines")
    counted: datetime | None = told("counted")
    journal_lines: int | None = told("journal_lines")
    journal_bytes: int | None = told("journal_bytes")
    journal_whole: bool | None = told("journal_whole")


class Truth(Schema):
    """What is known of the transport of one attempt, and of the state of its run."""

    run: str
    attempt: int | None
    attempts: list[int]
    at: datetime
    verdict: Verdict
    state: StateFacts
    heartbeat: Heartbeat
    clock: Clock
    streams: list[StreamTruth]


@router.get("/runs/{run_id}/truth", response=Truth)
def run_truth(
    request: HttpRequest,
    run_id: str,
    attempt: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> dict[str, Any]:
    """What arrived of an attempt (the newest unless one is named), how late, and why the run is shown so."""
    return truth_read(run_or_404(run_id), attempt)
