"""Runs: launch, look, steer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Header, Query, Router

from orchestrator.api.access import OPERATORS, owned
from orchestrator.api.problems import Conflict
from orchestrator.api.shapes import (
    Listed,
    Reason,
    RemovalOut,
    RunCreate,
    RunOut,
    RunPatch,
    SpecCheck,
    SpecOut,
)
from orchestrator.selectors.removals import removal_shape
from orchestrator.selectors.runs import Archived, run_shape, runs_list
from orchestrator.selectors.runs import run_get as run_find
from orchestrator.selectors.spec_review import spec_review
from orchestrator.services import runs, shelf
from orchestrator.services.idempotency import once, request_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Run


router = Router(tags=["runs"])

NO_REASON = Reason()
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def run_or_404(run_id: str) -> Run:
    """The run with this id."""
    run = run_find(run_id)
    if run is None:
        raise Http404("there is no such run")
    return run


@router.post("/runs", auth=OPERATORS, response={201: RunOut})
def run_launch(
    request: HttpRequest, payload: RunCreate, response: HttpResponse, idempotency_key: Key = None
) -> tuple[int, dict[str, Any]]:
    """Launch a run."""
    fields = payload.model_dump(mode="json")
    user = request.auth.user
    run = _once(request, idempotency_key, lambda: runs.run_create(owner=user, **fields))
    response["Location"] = f"{request.path}/{run.pk}"
    return 201, run_shape(run_or_404(run.pk))


@router.post("/runs/validate")
def run_validate(request: HttpRequest, payload: SpecCheck) -> dict[str, Any]:
    """Check a spec without launching it: errors, warnings, arithmetic and a forecast."""
    return dict(spec_review(payload.spec))


@router.get("/runs", response=Listed[RunOut])
def run_list(
    request: HttpRequest,
    state: str | None = None,
    kind: str | None = None,
    tag: str | None = None,
    q: str | None = None,
    archived: Archived = "no",
    order: str = "-created",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Runs, newest first unless ordered otherwise; archived ones where they are asked for."""
    found, count = runs_list(
        state=state,
        kind=kind,
        tag=tag,
        q=q,
        archived=archived,
        order=order,
        page=page,
        per_page=per_page,
    )
    return {"items": [run_shape(run) for run in found], "count": count}


@router.get("/runs/{run_id}", response=RunOut)
def run_get(request: HttpRequest, run_id: str) -> dict[str, Any]:
    """One run."""
    return run_shape(run_or_404(run_id))


@router.patch("/runs/{run_id}", auth=OPERATORS, response=RunOut)
def run_patch(request: HttpRequest, run_id: str, payload: RunPatch) -> dict[str, Any]:
    """Rename, tag, annotate, reprioritise (also while it waits), let it give way, change the restart policy, or a
    live knob.

    `knobs` names live knobs by path (`optimizer.lr`, `objective.beta`, `rollout.temperature`,
    `rewards.0.weight`, …) with their new values; null takes one back to the spec's value. The trainer applies
    them at its next step boundary and says from which step on they count.
    """
    owned(run_or_404(run_id), request.auth)
    changes = payload.model_dump(exclude_unset=True)
    runs.run_patch(run_id=run_id, user=request.auth.user, changes=changes)
    return run_shape(run_or_404(run_id))


@router.delete("/runs/{run_id}", auth=OPERATORS, response={202: Listed[RemovalOut]})
def run_delete(request: HttpRequest, run_id: str) -> tuple[int, dict[str, Any]]:
    """Delete a run that has ended: its rows, its files here, and by their next heartbeat those on nodes.

    Answers at once; `GET /api/removals` says how far it has come and what was freed, and `GET /api/runs/ID` is
    404 when the run is gone. Asking again changes nothing. A run that goes on, or that another one still needs,
    is refused with 409.
    """
    owned(run_or_404(run_id), request.auth)
    try:
        found = shelf.run_delete(run_id=run_id, user=request.auth.user)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return 202, {"items": [removal_shape(one) for one in found], "count": len(found)}


@router.get("/runs/{run_id}/spec", response=SpecOut)
def run_spec(request: HttpRequest, run_id: str) -> dict[str, Any]:
    """The spec as launched, and as the trainer ran it with its hash."""
    run = run_or_404(run_id)
    return {"spec": run.spec, "effective": run.effective_spec, "sha256": run.spec_hash}


@router.post("/runs/{run_id}/stop", auth=OPERATORS, response=RunOut)
def run_stop(
    request: HttpRequest, run_id: str, payload: Reason = NO_REASON, idempotency_key: Key = None
) -> dict[str, Any]:
    """Stop a run for good, after a checkpoint."""
    return _steer(request, run_id, idempotency_key, runs.run_stop, message=payload.message)


@router.post("/runs/{run_id}/pause", auth=OPERATORS, response=RunOut)
def run_pause(
    request: HttpRequest, run_id: str, payload: Reason = NO_REASON, idempotency_key: Key = None
) -> dict[str, Any]:
    """Checkpoint a run and free its slot until it is resumed."""
    return _steer(request, run_id, idempotency_key, runs.run_pause, message=payload.message)


@router.post("/runs/{run_id}/resume", auth=OPERATORS, response=RunOut)
def run_resume(request: HttpRequest, run_id: str, idempotency_key: Key = None) -> dict[str, Any]:
    """Continue a paused run."""
    return _steer(request, run_id, idempotency_key, runs.run_resume)


@router.post("/runs/{run_id}/retry", auth=OPERATORS, response=RunOut)
def run_retry(request: HttpRequest, run_id: str, idempotency_key: Key = None) -> dict[str, Any]:
    """Start an ended run again from its newest checkpoint."""
    return _steer(request, run_id, idempotency_key, runs.run_retry)


def _steer(
    request: HttpRequest, run_id: str, key: str | None, verb: Callable[..., Run], **words: Any
) -> dict[str, Any]:
    """Ask something of a run that the caller may change; a wrong moment is a conflict."""
    owned(run_or_404(run_id), request.auth)
    user = request.auth.user
    try:
        _once(request, key, lambda: verb(run_id=run_id, user=user, **words))
    except ValueError as error:
        raise Conflict(str(error)) from error
    return run_shape(run_or_404(run_id))


def _once(request: HttpRequest, key: str | None, make: Callable[[], Run]) -> Run:
    digest = request_digest(request.method, request.path, request.body)
    return once(user=request.auth.user, key=key, request=digest, make=make)
