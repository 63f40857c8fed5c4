"""The nodes' side: they join, claim and speak with their token."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router
from ninja.errors import AuthenticationError, HttpError
from ninja.security import HttpBearer

from orchestrator.api.problems import Conflict, problem
from orchestrator.api.shapes import Strict
from orchestrator.selectors.inputs import needed_still
from orchestrator.services import claims, nodes
from orchestrator.services.checkpoint_copies import copies_wanted
from orchestrator.services.checkpoint_removals import drops_of
from orchestrator.services.removals import removals_of

if TYPE_CHECKING:
    from orchestrator.models import Node

router = Router(tags=["nodes"])


class NodeToken(HttpBearer):
    """The token of a node."""

    def authenticate(self, request: HttpRequest, token: str) -> Node:
        """Find the node."""
        node = nodes.node_of_token(token)
        if node is None:
            raise AuthenticationError(message="the node token is unknown or was revoked")
        return node


class Join(Strict):
    """A machine that wants to work."""

    name: str = Field("", max_length=64)
    slots: int | None = Field(None, ge=1, le=1024)
    data_dir: str = Field("", max_length=4096)
    proof: str = Field("", max_length=200)
    labels: list[str] = Field(default_factory=list, max_length=64)
    """What `--label` named on its command line."""
    artifacts: str = Field("", max_length=2048)
    """Its ANNEAL_ARTIFACTS_URL: the server's own, or nothing for a node that does not speak to the store."""
    inventory: dict[str, Any] = Field(default_factory=dict)


class Joined(Strict):
    """What a node needs to know of this server."""

    id: str
    name: str
    slots: int
    instance: str
    local: bool
    """Whether its data directory is this server's own."""
    broker: dict[str, Any]
    heartbeat_seconds: float


class ClaimIn(Strict):
    """The attempt that a message named."""

    run: str = Field(max_length=12)
    attempt: int = Field(ge=1)


class FailIn(ClaimIn):
    """Why a claimed attempt could not be started."""

    cause: str = Field("bad-input", max_length=24)
    message: str = Field(max_length=4000)


class HeartbeatIn(Strict):
    """A node's sign of life."""

    inventory: dict[str, Any] = Field(default_factory=dict)
    runs: list[dict[str, Any]] = Field(default_factory=list, max_length=4096)
    expect_next_in: float = Field(gt=0, le=600)
    instance: str = Field("", max_length=32)


class FetchedIds(Strict):
    """Checkpoints by id, and data sets by the SHA-256 of their files."""

    checkpoints: list[str] = Field(default_factory=list, max_length=10_000)
    datasets: list[str] = Field(default_factory=list, max_length=10_000)


@router.post("/nodes/join", auth=NodeToken(), response=Joined)
def node_join(request: HttpRequest, payload: Join) -> dict[str, Any] | HttpResponse:
    """Join this machine as a node; the answer says where the broker is."""
    token = request.headers["Authorization"].partition(" ")[2].strip()
    try:
        node = nodes.node_join(token=token, **payload.model_dump())
    except nodes.BrokerUnreachable as error:
        return problem(409, str(error), Anneal_Proof=str(error.proof_path))
    except ValueError as error:
        raise Conflict(str(error)) from error
    return {
        "id": node.pk,
        "name": node.name,
        "slots": node.slots,
        "instance": node.instance,
        "local": node.local,
        "broker": nodes.broker_of(node),
        "heartbeat_seconds": nodes.HEARTBEAT_SECONDS,
    }


@router.post("/claims", auth=NodeToken(), response=dict[str, Any])
def claim(request: HttpRequest, payload: ClaimIn) -> dict[str, Any]:
    """Claim an attempt; 409 when it is old, doubled, cancelled, or another node's."""
    order = claims.run_claim(node=request.auth, run_id=payload.run, attempt=payload.attempt)
    if order is None:
        raise Conflict("this attempt is not to be claimed (any more)")
    return dataclasses.asdict(order)


@router.post("/claims/fail", auth=NodeToken(), response=dict[str, Any])
def claim_fail(request: HttpRequest, payload: FailIn) -> dict[str, Any]:
    """Say why a claimed attempt could not be started; the run shows the sentence."""
    told = claims.claim_fail(
        node=request.auth,
        run_id=payload.run,
        attempt=payload.attempt,
        cause=payload.cause,
        message=payload.message,
    )
    return {"applied": told}


@router.post("/fetched/needed", auth=NodeToken(), response=FetchedIds)
def fetched_needed(request: HttpRequest, payload: FetchedIds) -> dict[str, list[str]]:
    """Say which of the checkpoints and data sets that a node has fetched are named by runs that have not ended."""
    return needed_still(**payload.model_dump())


@router.post("/heartbeats", auth=NodeToken(), response=dict[str, Any])
def heartbeat(request: HttpRequest, payload: HeartbeatIn) -> dict[str, Any]:
    """Note that a node and its runs are there.

    `fenced` names attempts that must end, `bring` checkpoints that the node is to send to the server,
    `remove` deleted runs and `drop` deleted checkpoints whose files it is to remove.
    """
    try:
        stale = nodes.node_heartbeat(node=request.auth, **payload.model_dump())
    except nodes.NodeReplaced as error:
        raise HttpError(410, str(error)) from error
    except ValueError as error:
        raise Conflict(str(error)) from error
    node = request.auth
    return {
        "fenced": stale,
        "bring": copies_wanted(node),
        "remove": removals_of(node),
        "drop": drops_of(node),
    }
