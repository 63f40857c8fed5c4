"""Checkpoints: lists, what people say of them, where they came from, and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Query, Router
from ninja.errors import AuthorizationError

from orchestrator.api.access import OPERATORS, VIEWERS_AND_NODES
from orchestrator.api.archive import Member, tar_answer
from orchestrator.api.files import file_answer
from orchestrator.api.problems import Conflict, problem
from orchestrator.api.registry_shapes import (
    ChangeNoted,
    LineageOut,
    RegisteredPatch,
    Search,
    lineage_shape,
)
from orchestrator.api.runs import run_or_404
from orchestrator.api.shapes import CheckpointOut, Listed
from orchestrator.artifacts.store import StoredFile
from orchestrator.models import Node
from orchestrator.selectors.artifacts import store_state
from orchestrator.selectors.checkpoint_search import Asked
from orchestrator.selectors.checkpoints import (
    change_shape,
    changes_of,
    checkpoint_get,
    checkpoint_shape,
    checkpoints_list,
)
from orchestrator.selectors.reach import node_reads_checkpoint
from orchestrator.services.checkpoint_removals import checkpoint_delete
from orchestrator.services.checkpoints import checkpoint_file, checkpoint_files
from orchestrator.services.registry import checkpoint_patch, may_change, subject_of

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint

router = Router(tags=["checkpoints"])

MANIFEST = "manifest.json"


def checkpoint_or_404(checkpoint_id: str) -> Checkpoint:
    """The checkpoint with this id."""
    checkpoint = checkpoint_get(checkpoint_id)
    if checkpoint is None:
        raise Http404("there is no such checkpoint")
    return checkpoint


@router.get("/checkpoints", response=Listed[CheckpointOut])
def checkpoint_list(
    request: HttpRequest,
    asked: Annotated[Search, Query()],
    run: Annotated[str, Query(max_length=12)] = "",
    final: Annotated[bool | None, Query()] = None,
    deleted: bool = False,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Checkpoints of all runs, newest first; with `deleted` also those whose files are gone.

    `q` finds words of run, tag, owner or id, and metrics: `eval/reward` or `eval/reward > 0.8`.
    """
    wanted = Asked(run=run, final=final, removed=deleted, **asked.model_dump())
    found, count = checkpoints_list(asked=wanted, page=page, per_page=per_page)
    return {"items": [checkpoint_shape(one) for one in found], "count": count}


@router.get("/runs/{run_id}/checkpoints", response=Listed[CheckpointOut])
def run_checkpoints(
    request: HttpRequest,
    run_id: str,
    deleted: bool = False,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """A run's checkpoints, newest step first; with `deleted` also those whose files are gone."""
    found, count = checkpoints_list(
        run=run_or_404(run_id), deleted=deleted, page=page, per_page=per_page
    )
    return {"items": [checkpoint_shape(one) for one in found], "count": count}


@router.get("/checkpoints/{checkpoint_id}", response=CheckpointOut)
def checkpoint_read(request: HttpRequest, checkpoint_id: str) -> dict[str, Any]:
    """One checkpoint."""
    return checkpoint_shape(checkpoint_or_404(checkpoint_id))


@router.patch("/checkpoints/{checkpoint_id}", auth=OPERATORS, response=CheckpointOut)
def checkpoint_change(
    request: HttpRequest, checkpoint_id: str, payload: RegisteredPatch
) -> dict[str, Any]:
    """Tag, pin, stage or annotate a checkpoint of one's own; admins any.

    What is pinned or approved is removed by no keep policy and no rule, and cannot be deleted.
    """
    pk = _mine(request, checkpoint_id).pk
    changes = payload.model_dump(exclude_unset=True)
    caller = request.auth
    checkpoint_patch(checkpoint_id=pk, user=caller.user, role=caller.role, changes=changes)
    return checkpoint_shape(checkpoint_or_404(pk))


@router.delete("/checkpoints/{checkpoint_id}", auth=OPERATORS, response={202: CheckpointOut})
def checkpoint_remove(request: HttpRequest, checkpoint_id: str) -> tuple[int, dict[str, Any]]:
    """Delete a checkpoint: its figures stay, its files go bit by bit (`leaves`).

    409 while it is pinned or approved, or a run needs it that has not ended.
    """
    pk = _mine(request, checkpoint_id).pk
    caller = request.auth
    try:
        checkpoint_delete(checkpoint_id=pk, user=caller.user, role=caller.role)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return 202, checkpoint_shape(checkpoint_or_404(pk))


@router.get("/checkpoints/{checkpoint_id}/lineage", response=LineageOut)
def checkpoint_lineage(request: HttpRequest, checkpoint_id: str) -> dict[str, Any]:
    """Where it came from (start model, warm start, fork, reference, merges), and what was made from it."""
    return lineage_shape(checkpoint_or_404(checkpoint_id))


@router.get("/checkpoints/{checkpoint_id}/changes", response=list[ChangeNoted])
def checkpoint_changes(request: HttpRequest, checkpoint_id: str) -> list[dict[str, Any]]:
    """Who changed its tags, pin, stage or note, and when; newest first."""
    subject = subject_of(checkpoint_or_404(checkpoint_id))
    return [change_shape(one) for one in changes_of(subject)]


@router.get("/checkpoints/{checkpoint_id}/files", auth=VIEWERS_AND_NODES)
def checkpoint_listing(request: HttpRequest, checkpoint_id: str) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint."""
    return checkpoint_files(_present(request, checkpoint_id))


@router.get("/checkpoints/{checkpoint_id}/tar")
def checkpoint_tar(request: HttpRequest, checkpoint_id: str) -> HttpResponse:
    """All files of a checkpoint as one uncompressed tar."""
    checkpoint = _present(request, checkpoint_id)
    members = []
    for name in [*checkpoint_files(checkpoint), MANIFEST]:
        try:
            file = checkpoint_file(checkpoint, name)
            size = file.size if isinstance(file, StoredFile) else file.stat().st_size
        except (ValueError, OSError) as error:
            return problem(409, f"{name} is missing: {error}")
        members.append(Member(name, file, size))
    if (away := _store_away(members[-1].file)) is not None:
        return away
    called = f"checkpoint-{checkpoint.pk}-step-{checkpoint.step}"
    return tar_answer(called, members, modified=checkpoint.created.timestamp())


@router.get("/checkpoints/{checkpoint_id}/files/{path:name}", auth=VIEWERS_AND_NODES)
def checkpoint_download(
    request: HttpRequest, checkpoint_id: str, name: Annotated[str, Path()]
) -> HttpResponse:
    """One file of a checkpoint; `Range` continues a broken download, `ETag` is the file's SHA-256."""
    checkpoint = _present(request, checkpoint_id)
    try:
        file = checkpoint_file(checkpoint, name)
    except ValueError as error:
        raise Http404(str(error)) from error
    if (away := _store_away(file)) is not None:
        return away
    sha256 = checkpoint.sha256 if name == MANIFEST else checkpoint_files(checkpoint)[name]
    return file_answer(request, file, sha256=sha256)


def _store_away(file: Any) -> HttpResponse | None:
    """What is answered while the artifact store that holds the file cannot be read."""
    if isinstance(file, StoredFile) and (state := store_state()) and not state.works:
        return problem(503, f"The artifact store cannot be read now: {state.state}")
    return None


def _mine(request: HttpRequest, checkpoint_id: str) -> Checkpoint:
    checkpoint = checkpoint_or_404(checkpoint_id)
    if not may_change(checkpoint, request.auth.user, request.auth.role):
        raise AuthorizationError(message="only its owner or an admin may change a checkpoint")
    return checkpoint


def _present(request: HttpRequest, checkpoint_id: str) -> Checkpoint:
    """The checkpoint, whose files lie on this server. A node reads what its own runs need."""
    checkpoint = checkpoint_or_404(checkpoint_id)
    if isinstance(request.auth, Node) and not node_reads_checkpoint(request.auth, checkpoint):
        raise PermissionDenied("no run that this node holds needs this checkpoint")
    try:
        checkpoint_files(checkpoint)
    except ValueError as error:
        raise Http404(str(error)) from error
    return checkpoint
