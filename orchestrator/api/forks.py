"""New runs from old ones: clone and fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router

from orchestrator.api.access import OPERATORS
from orchestrator.api.runs import Key, _once, run_or_404
from orchestrator.api.shapes import RunOut, Strict
from orchestrator.selectors.runs import run_shape
from orchestrator.services import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Run

router = Router(tags=["runs"])


class CloneIn(Strict):
    """What is different in the new run."""

    changes: dict[str, Any] = Field(default_factory=dict)
    """Knobs by path, such as `optimizer.lr`."""
    name: str = Field("", max_length=120)


NOTHING = CloneIn()


class ForkIn(CloneIn):
    """Where the new run starts from, and what is different in it."""

    checkpoint: str = Field("", max_length=12)
    """Id of one of the run's checkpoints; or give `step`."""
    step: int | None = Field(None, ge=0)
    """Step of one of the run's checkpoints."""


@router.post("/runs/{run_id}/clone", auth=OPERATORS, response={201: RunOut})
def run_clone(
    request: HttpRequest,
    run_id: str,
    response: HttpResponse,
    payload: CloneIn = NOTHING,
    idempotency_key: Key = None,
) -> tuple[int, dict[str, Any]]:
    """Launch the run's spec again, with changes."""
    words = {"run_id": run_id, "user": request.auth.user, **payload.model_dump()}
    return _made(request, response, run_id, idempotency_key, lambda: forks.run_clone(**words))


@router.post("/runs/{run_id}/fork", auth=OPERATORS, response={201: RunOut})
def run_fork(
    request: HttpRequest,
    run_id: str,
    response: HttpResponse,
    payload: ForkIn,
    idempotency_key: Key = None,
) -> tuple[int, dict[str, Any]]:
    """Launch a new run from the weights of one of this run's checkpoints, with changes.

    Its curves continue this run's: `GET /runs/ID/lineage` gives the part before the fork.
    """
    words = {"run_id": run_id, "user": request.auth.user, **payload.model_dump()}
    return _made(request, response, run_id, idempotency_key, lambda: forks.run_fork(**words))


def _made(
    request: HttpRequest,
    response: HttpResponse,
    run_id: str,
    key: str | None,
    make: Callable[[], Run],
) -> tuple[int, dict[str, Any]]:
    run_or_404(run_id)
    run = _once(request, key, make)
    response["Location"] = f"/api/runs/{run.pk}"
    return 201, run_shape(run)
