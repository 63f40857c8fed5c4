"""The execution plan of a run as JSON: spans of its steps, what they add up to, estimates, what to change."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from orchestrator.api.runs import run_or_404
from orchestrator.selectors.plan import HELP, plan_read

router = Router(tags=["telemetry"])

Steps = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,15}(-[0-9]{1,15})?$",
        description="Whose spans are wanted: a step, or FIRST-LAST. Without it, those of the newest steps.",
    ),
]


def told(name: str) -> Any:
    """A field with the words that the page has for it."""
    return Field(..., description=HELP[name])


class SpanOut(Schema):
    """A phase at work, in seconds since the start of its line."""

    phase: str
    start: float
    end: float


class PlanLine(Schema):
    """What one process did in one step."""

    process: str
    attempt: int
    step: int
    steps: int
    """How many steps it stands for; 0 for what came behind the last one."""
    start: float
    """Unix time by the node's clock."""
    seconds: float
    folded: int
    """How many spans were added up, one a phase, at the end."""
    spans: list[SpanOut]


class PlanPhase(Schema):
    """A phase of a process, over all lines that are kept."""

    process: str
    phase: str
    label: str
    p50_s: float = told("p50_s")
    mean_s: float = told("mean_s")
    share: float = told("share")
    path_share: float = told("path_share")
    steps: int
    """Steps that have it."""
    estimated_s: float | None = told("estimated_s")
    basis: str = told("basis")


class Bottleneck(Schema):
    """Where the time goes."""

    phase: str
    process: str
    share: float = told("path_share")
    words: str


class SuggestionOut(Schema):
    """One change that is worth a try."""

    field: str
    """The path of the spec's field."""
    text: str
    rule: str
    """When it is suggested."""
    source: str


class Plan(Schema):
    """The execution plan of a run."""

    run: str
    kept: int = told("kept")
    kept_most: int
    first_step: int | None
    last_step: int | None
    steps: tuple[int, int] | None
    """Whose spans these are."""
    processes: list[str]
    lines: list[PlanLine]
    phases: list[PlanPhase]
    step_p50_s: float | None
    estimated_step_s: float | None = told("estimated_s")
    bottleneck: Bottleneck | None = told("bottleneck")
    suggestions: list[SuggestionOut] = told("suggestions")
    words: str
    """Why there is none; "" where there is one."""


@router.get("/runs/{run_id}/plan", response=Plan)
def run_plan(request: HttpRequest, run_id: str, steps: Steps = None) -> dict[str, Any]:
    """Which phases each process was in at each step, estimated against measured, and what to change."""
    first, _, last = (steps or "").partition("-")
    asked = (int(first), int(last or first)) if first else None
    if asked and asked[0] > asked[1]:
        raise ValueError(f"steps: {steps} ends before it begins")
    return plan_read(run_or_404(run_id), asked)
