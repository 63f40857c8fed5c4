"""External models: register, look, change, read again, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.errors import AuthorizationError

from orchestrator.api.access import OPERATORS
from orchestrator.api.problems import Conflict
from orchestrator.api.registry_shapes import (
    ChangeNoted,
    ExternalIn,
    ExternalOut,
    ExternalPatch,
    LineageOut,
    Search,
    lineage_shape,
)
from orchestrator.api.shapes import Listed
from orchestrator.selectors.checkpoints import change_shape, changes_of
from orchestrator.selectors.externals import external_get, external_shape, externals_list
from orchestrator.services import externals
from orchestrator.services.registry import external_patch, may_change, subject_of

if TYPE_CHECKING:
    from orchestrator.models import External

router = Router(tags=["checkpoints"])


@router.get("/externals", response=Listed[ExternalOut])
def external_list(
    request: HttpRequest,
    asked: Annotated[Search, Query()],
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """External models, newest first; `q` finds words of name, source, tag, owner or id."""
    found, count = externals_list(**asked.model_dump(), page=page, per_page=per_page)
    return {"items": [external_shape(one) for one in found], "count": count}


@router.post("/externals", auth=OPERATORS, response={201: ExternalOut})
def external_create(
    request: HttpRequest, response: HttpResponse, payload: ExternalIn
) -> tuple[int, dict[str, Any]]:
    """Register a folder or a hub model, so that specs can name it as `external:ID`.

    What this server can read of a folder is read at once: its hash, size, vocabulary and tokenizer. None of the
    model's own code is run, here or later, unless a spec says `model.trust_remote_code`.
    """
    made = externals.external_register(owner=request.auth.user, **payload.model_dump())
    response["Location"] = f"{request.path}/{made.pk}"
    return 201, external_shape(made)


@router.get("/externals/{external_id}", response=ExternalOut)
def external_read(request: HttpRequest, external_id: str) -> dict[str, Any]:
    """One external model."""
    return external_shape(external_or_404(external_id))


@router.patch("/externals/{external_id}", auth=OPERATORS, response=ExternalOut)
def external_change(
    request: HttpRequest, external_id: str, payload: ExternalPatch
) -> dict[str, Any]:
    """Rename, tag, pin, stage or annotate an external model of one's own; admins any."""
    pk = _mine(request, external_id).pk
    changes = payload.model_dump(exclude_unset=True)
    caller = request.auth
    external_patch(external_id=pk, user=caller.user, role=caller.role, changes=changes)
    return external_shape(external_or_404(pk))


@router.post("/externals/{external_id}/read", auth=OPERATORS, response=ExternalOut)
def external_again(request: HttpRequest, external_id: str) -> dict[str, Any]:
    """Look into its folder again; a model that has become another one loses its stage."""
    pk = _mine(request, external_id).pk
    caller = request.auth
    externals.external_reread(external_id=pk, user=caller.user, role=caller.role)
    return external_shape(external_or_404(pk))


@router.delete("/externals/{external_id}", auth=OPERATORS, response={204: None})
def external_remove(request: HttpRequest, external_id: str) -> tuple[int, None]:
    """Forget an external model; its files stay. 409 while it is pinned, approved or needed by a run."""
    pk = _mine(request, external_id).pk
    caller = request.auth
    try:
        externals.external_delete(external_id=pk, user=caller.user, role=caller.role)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return 204, None


@router.get("/externals/{external_id}/lineage", response=LineageOut)
def external_lineage(request: HttpRequest, external_id: str) -> dict[str, Any]:
    """What it was merged or copied from, where that is known here, and the runs that use it."""
    return lineage_shape(external_or_404(external_id))


@router.get("/externals/{external_id}/changes", response=list[ChangeNoted])
def external_changes(request: HttpRequest, external_id: str) -> list[dict[str, Any]]:
    """Who changed what of it, and when; newest first."""
    subject = subject_of(external_or_404(external_id))
    return [change_shape(one) for one in changes_of(subject)]


def external_or_404(external_id: str) -> External:
    """The external model with this id."""
    external = external_get(external_id)
    if external is None:
        raise Http404("there is no such external model")
    return external


def _mine(request: HttpRequest, external_id: str) -> External:
    external = external_or_404(external_id)
    if not may_change(external, request.auth.user, request.auth.role):
        raise AuthorizationError(message="only its owner or an admin may change an external model")
    return external
