"""Copies of checkpoints: a node sends what it saved to the server, in pieces, with its token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from ninja import Field, Path, Router, Schema

from orchestrator.api.checkpoints import checkpoint_or_404
from orchestrator.api.nodes import NodeToken
from orchestrator.api.problems import Conflict, problem
from orchestrator.api.shapes import Strict
from orchestrator.services import checkpoint_copies as copies
from orchestrator.services import store_copies
from orchestrator.services.checkpoint_removals import checkpoint_left
from orchestrator.services.dispatch import sent_tell

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint

router = Router(tags=["nodes"])

CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})")


class CopyStatus(Schema):
    """What of a copy is on the server."""

    stored: bool
    have: dict[str, int] = Field(default_factory=dict)
    """Bytes of each file that has begun to arrive."""
    checked: list[str] = Field(default_factory=list)
    """Files that arrived whole and have the right hash."""


class PieceTaken(Schema):
    """Where the file stands after a piece."""

    stored: bool
    checked: bool
    have: int


class CopyNamed(Strict):
    """A checkpoint as its node knows it: by the hash of its manifest."""

    sha256: str = Field(max_length=64)


class DroppedIn(CopyNamed):
    """What a node has freed."""

    bytes: int = Field(ge=0, lt=2**62)


class WaitsIn(CopyNamed):
    """Why it is not in the artifact store."""

    message: str = Field(max_length=1000)


@router.get("/checkpoints/{checkpoint_id}/copy", auth=NodeToken(), response=CopyStatus)
def copy_read(request: HttpRequest, checkpoint_id: str) -> dict[str, Any]:
    """Say what of a checkpoint has arrived, so that its node goes on from there."""
    checkpoint = _mine(request, checkpoint_id)
    return copies.copy_status(checkpoint)


@router.put("/checkpoints/{checkpoint_id}/copy/{path:name}", auth=NodeToken(), response=PieceTaken)
def copy_write(
    request: HttpRequest, checkpoint_id: str, name: Annotated[str, Path()]
) -> dict[str, Any] | HttpResponse:
    """Take the piece of a file that `Content-Range` names; `bytes */TOTAL` without a body asks for the check."""
    checkpoint = _mine(request, checkpoint_id)
    data = request.body
    start, total = _range(request.headers.get("Content-Range", ""), len(data))
    try:
        return copies.copy_piece(
            checkpoint=checkpoint, name=name, start=start, total=total, data=data
        )
    except copies.OutOfPlace as error:
        return problem(409, str(error), Anneal_Have=str(error.have))
    except copies.Busy as error:
        raise Conflict(str(error)) from error
    except copies.DiskFull as error:
        return problem(507, str(error))


@router.post("/checkpoints/{checkpoint_id}/sent", auth=NodeToken(), response=dict[str, Any])
def copy_sent(request: HttpRequest, checkpoint_id: str, payload: CopyNamed) -> dict[str, Any]:
    """Say that a checkpoint is in the artifact store; it counts once the server has seen it there."""
    checkpoint = _mine(request, checkpoint_id)
    sent_tell(checkpoint.pk, payload.sha256)
    return {"applied": True}


@router.post("/checkpoints/{checkpoint_id}/waits", auth=NodeToken(), response=dict[str, Any])
def copy_waits(request: HttpRequest, checkpoint_id: str, payload: WaitsIn) -> dict[str, Any]:
    """Say why a checkpoint is not in the artifact store yet; its run shows the sentence."""
    checkpoint = _mine(request, checkpoint_id)
    if checkpoint.sha256 == payload.sha256:
        store_copies.copy_waits(checkpoint=checkpoint, message=payload.message)
    return {"applied": True}


@router.post("/checkpoints/{checkpoint_id}/lost", auth=NodeToken(), response=dict[str, Any])
def copy_lost(request: HttpRequest, checkpoint_id: str, payload: CopyNamed) -> dict[str, Any]:
    """Say that the files are gone from the node's disk, so that nobody waits for them."""
    checkpoint = _mine(request, checkpoint_id)
    told = copies.copy_lost(checkpoint=checkpoint, sha256=payload.sha256)
    return {"applied": told}


@router.post("/checkpoints/{checkpoint_id}/dropped", auth=NodeToken(), response=dict[str, Any])
def copy_dropped(request: HttpRequest, checkpoint_id: str, payload: DroppedIn) -> dict[str, Any]:
    """Say that the files of a deleted checkpoint are gone from the node's disk, and what that freed."""
    checkpoint = checkpoint_or_404(checkpoint_id)
    asked = checkpoint.sha256 == payload.sha256
    told = asked and checkpoint_left(checkpoint.pk, request.auth.pk, payload.bytes)
    return {"applied": told}


def _mine(request: HttpRequest, checkpoint_id: str) -> Checkpoint:
    """The checkpoint, when an attempt of this node saved it."""
    checkpoint = checkpoint_or_404(checkpoint_id)
    if not copies.saved_by(request.auth, checkpoint):
        raise PermissionDenied("this checkpoint was not saved by an attempt of this node")
    return checkpoint


def _range(text: str, length: int) -> tuple[int, int]:
    """First byte and size of the whole file. Raises ValueError when the body does not fit them."""
    match = CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Content-Range is '{text[:80]}'; send 'bytes FIRST-LAST/TOTAL'.")
    first, last, total = match.groups()
    if first is None:
        if length:
            raise ValueError("Content-Range: 'bytes */TOTAL' comes without a body.")
        return int(total), int(total)
    if int(last) - int(first) + 1 != length:
        raise ValueError(f"Content-Range says {text[:80]}, but the body has {length} bytes.")
    return int(first), int(total)
