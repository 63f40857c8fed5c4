"""The life of a run beside stop and go: steer, archive, delete, and where it came from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from orchestrator.api.access import OPERATORS
from orchestrator.api.nodes import NodeToken
from orchestrator.api.runs import Key as Once
from orchestrator.api.runs import _steer, run_or_404
from orchestrator.api.shapes import Curve, Listed, RemovalOut, RunOut, Strict
from orchestrator.api.telemetry import NO_KEYS, Key, Keys, keys_asked
from orchestrator.selectors.changes import steering
from orchestrator.selectors.forks import lineage_read
from orchestrator.selectors.removals import removal_shape, removals_list
from orchestrator.selectors.run_seams import run_seams as seams_of
from orchestrator.selectors.series import series_keys
from orchestrator.services import live_knobs, removals, shelf

router = Router(tags=["runs"])

KEYS_MOST = 500


class KnobOut(Schema):
    """A knob that may change while the run goes on."""

    path: str
    of: str
    """The method that has it, where the path only numbers it: `exact-match` of `rewards.0.weight`."""
    spec: Any
    """Its value in the spec."""
    wanted: Any
    """The value that somebody asked for, or the spec's."""
    counts: Any
    """The value that the trainer last said it uses."""
    changed: bool
    waits: bool
    """Whether the trainer has not yet said that it uses the wanted value."""
    help: str


class ChangeOut(Schema):
    """A change that the trainer has applied."""

    attempt: int
    step: int
    """The first optimizer step that it counted for."""
    path: str
    old: Any
    new: Any


class SteeringOut(Schema):
    """What of a run can be changed while it goes on, and what was."""

    knobs: list[KnobOut]
    changes: list[ChangeOut]
    may_evaluate: bool
    open: bool
    """Whether changes are taken: the run trains and has not ended."""


class SeamOut(Schema):
    """A line across a run's curves."""

    step: int
    time: float
    """Unix time by the node's clock."""
    label: str
    """Short, for a chart."""
    text: str
    kind: Literal["fork", "attempt", "knob"]


class Segment(Schema):
    """The part of an ancestor's curves before its fork."""

    run: str
    name: str
    step: int
    """The ancestor's step at which it was forked."""
    offset: int
    """Its step s lies at s + offset on the step axis of the run that was asked for."""
    curves: dict[str, Curve]


class RemovedIn(Strict):
    """What a node has freed."""

    run: str = Field(max_length=12)
    bytes: int = Field(ge=0)


@router.post("/runs/{run_id}/save", auth=OPERATORS, response=RunOut)
def run_save(request: HttpRequest, run_id: str, idempotency_key: Once = None) -> dict[str, Any]:
    """Save a checkpoint at the next step boundary."""
    return _steer(request, run_id, idempotency_key, live_knobs.run_request, what="save")


@router.post("/runs/{run_id}/evaluate", auth=OPERATORS, response=RunOut)
def run_evaluate(request: HttpRequest, run_id: str, idempotency_key: Once = None) -> dict[str, Any]:
    """Evaluate at the next step boundary."""
    return _steer(request, run_id, idempotency_key, live_knobs.run_request, what="evaluate")


@router.get("/runs/{run_id}/steering", response=SteeringOut)
def run_steering(request: HttpRequest, run_id: str) -> dict[str, Any]:
    """The knobs that may change while the run goes on, and the changes so far, newest first."""
    return steering(run_or_404(run_id))


@router.post("/runs/{run_id}/archive", auth=OPERATORS, response=RunOut)
def run_archive(request: HttpRequest, run_id: str, idempotency_key: Once = None) -> dict[str, Any]:
    """Leave a run that has ended out of lists."""
    return _steer(request, run_id, idempotency_key, shelf.run_archive)


@router.post("/runs/{run_id}/unarchive", auth=OPERATORS, response=RunOut)
def run_unarchive(
    request: HttpRequest, run_id: str, idempotency_key: Once = None
) -> dict[str, Any]:
    """Put a run back into lists."""
    return _steer(request, run_id, idempotency_key, shelf.run_unarchive)


@router.get("/removals", response=Listed[RemovalOut])
def removal_list(
    request: HttpRequest,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Deleted runs, newest first: the rows gone so far, and what was freed where; until then `done` is null."""
    found, count = removals_list(page=page, per_page=per_page)
    return {"items": [removal_shape(one) for one in found], "count": count}


@router.post("/removals", auth=NodeToken(), response=dict[str, Any])
def removal_report(request: HttpRequest, payload: RemovedIn) -> dict[str, Any]:
    """A node says what it has freed."""
    told = removals.removal_report(node=request.auth, run_id=payload.run, freed=payload.bytes)
    return {"applied": told}


@router.get("/runs/{run_id}/seams", response=list[SeamOut], tags=["telemetry"])
def run_seams(request: HttpRequest, run_id: str) -> list[dict[str, Any]]:
    """Where a run's curves have seams: a fork, a new attempt, a live change with its old and new value."""
    return seams_of(run_or_404(run_id))


@router.get("/runs/{run_id}/lineage", response=list[Segment], tags=["telemetry"])
def run_lineage(
    request: HttpRequest,
    run_id: str,
    response: HttpResponse,
    names: Keys = "",
    single: Key = NO_KEYS,
    x: str = "step",
    points: Annotated[int, Query(ge=6, le=100_000)] = 1500,
) -> list[dict[str, Any]]:
    """The curves of the runs that this one was forked from, each up to its fork, youngest first.

    Joined to `GET /runs/ID/series`: along steps and tokens their points lie at or below 0, where this run
    begins; along time they lie where they were. Empty for a run that is no fork.
    """
    run = run_or_404(run_id)
    wanted = keys_asked(names, single) or series_keys(run)
    if len(wanted) > KEYS_MOST:
        raise ValueError(f"{len(wanted)} metrics at once; {KEYS_MOST} is the most")
    return lineage_read(run=run, keys=wanted, x=x, points=points)
