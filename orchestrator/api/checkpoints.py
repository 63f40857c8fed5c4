"""Checkpoints and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Query, Router

from orchestrator.api.access import VIEWERS_AND_NODES
from orchestrator.api.files import file_answer
from orchestrator.api.problems import problem
from orchestrator.api.runs import run_or_404
from orchestrator.api.shapes import CheckpointOut, Listed
from orchestrator.artifacts.store import StoredFile
from orchestrator.models import Node
from orchestrator.selectors.artifacts import store_state
from orchestrator.selectors.checkpoints import checkpoint_get, checkpoint_shape, checkpoints_list
from orchestrator.selectors.reach import node_reads_checkpoint
from orchestrator.services.checkpoints import checkpoint_file, checkpoint_files

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


@router.get("/checkpoints/{checkpoint_id}/files", auth=VIEWERS_AND_NODES)
def checkpoint_listing(request: HttpRequest, checkpoint_id: str) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint."""
    return checkpoint_files(_present(request, checkpoint_id))


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
    if isinstance(file, StoredFile) and (state := store_state()) and not state.works:
        return problem(503, f"The artifact store cannot be read now: {state.state}")
    sha256 = checkpoint.sha256 if name == MANIFEST else checkpoint_files(checkpoint)[name]
    return file_answer(request, file, sha256=sha256)


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
