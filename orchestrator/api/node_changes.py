"""The people's side of nodes: look, invite, change, drain, revoke, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Field, Router

from orchestrator.api.access import ADMINS
from orchestrator.api.problems import Conflict
from orchestrator.api.shapes import Listed, Strict
from orchestrator.selectors.node_history import readings_list
from orchestrator.selectors.nodes import node_get, node_shape, nodes_list
from orchestrator.services import node_changes, nodes

if TYPE_CHECKING:
    from orchestrator.models import Node

router = Router(tags=["nodes"])

SLOTS_MOST = 1024


class Invitation(Strict):
    """A machine that may join."""

    name: str = Field(max_length=64)
    slots: int = Field(1, ge=1, le=SLOTS_MOST)
    """Runs at a time; a machine with GPUs gets one per GPU when it first joins."""
    labels: list[str] = Field(default_factory=list, max_length=64)


class NodePatch(Strict):
    """What to change; fields that are left out stay."""

    slots: int = Field(1, ge=1, le=SLOTS_MOST)
    labels: list[str] = Field(default_factory=list, max_length=64)
    drained: bool = False
    """Takes no runs at all; what is on it finishes."""
    cordoned: bool = False
    """Takes no new runs; those that worked on it last may return."""


@router.get("/nodes", response=Listed[dict[str, Any]])
def node_list(request: HttpRequest) -> dict[str, Any]:
    """Every node with its slots, what it has and what it runs."""
    found = [node_shape(node) for node in nodes_list()]
    return {"items": found, "count": len(found)}


@router.post("/nodes", auth=ADMINS, response={201: dict[str, Any]})
def node_invite(
    request: HttpRequest, response: HttpResponse, payload: Invitation
) -> tuple[int, dict[str, Any]]:
    """Make a node and its token, which no later answer shows again."""
    node, token = nodes.node_invite(**payload.model_dump())
    response["Location"] = f"{request.path}/{node.pk}"
    return 201, {**node_shape(node), "token": token}


@router.get("/nodes/{node_id}", response=dict[str, Any])
def node_read(request: HttpRequest, node_id: str) -> dict[str, Any]:
    """One node."""
    return node_shape(_or_404(node_id))


@router.get("/nodes/{node_id}/readings", response=Listed[dict[str, Any]])
def node_readings(request: HttpRequest, node_id: str) -> dict[str, Any]:
    """How loaded the node was during the last hour: percent, watts, degrees Celsius; null where unknown."""
    found = readings_list(_or_404(node_id))
    return {"items": found, "count": len(found)}


@router.patch("/nodes/{node_id}", auth=ADMINS, response=dict[str, Any])
def node_patch(request: HttpRequest, node_id: str, payload: NodePatch) -> dict[str, Any]:
    """Change slots and labels, drain or undrain, cordon or uncordon."""
    _or_404(node_id)
    changes = payload.model_dump(exclude_unset=True)
    return node_shape(node_changes.node_patch(node_id=node_id, **changes))


@router.post("/nodes/{node_id}/token", auth=ADMINS, response=dict[str, Any])
def node_token(request: HttpRequest, node_id: str) -> dict[str, Any]:
    """Give the node another token, shown this once; the old one works no more."""
    _or_404(node_id)
    try:
        node, token = node_changes.node_token_renew(node_id=node_id)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return {**node_shape(node), "token": token}


@router.post("/nodes/{node_id}/revoke", auth=ADMINS, response=dict[str, Any])
def node_revoke(request: HttpRequest, node_id: str) -> dict[str, Any]:
    """Take the node's token back; trainings on it go on until they end."""
    _or_404(node_id)
    try:
        node_changes.node_revoke(node_id=node_id)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return node_shape(_or_404(node_id))


@router.delete("/nodes/{node_id}", auth=ADMINS, response={204: None})
def node_remove(request: HttpRequest, node_id: str) -> tuple[int, None]:
    """Take a node off the list; 409 while something runs on it."""
    _or_404(node_id)
    try:
        node_changes.node_remove(node_id=node_id)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return 204, None


def _or_404(node_id: str) -> Node:
    node = node_get(node_id)
    if node is None:
        raise Http404("there is no such node")
    return node
