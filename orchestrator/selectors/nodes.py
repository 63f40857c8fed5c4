"""Nodes as people ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Node
from orchestrator.models.contact import node_alive
from orchestrator.selectors.fitting import slots_needed
from orchestrator.selectors.members import runs_on

if TYPE_CHECKING:
    from orchestrator.models import Run


def nodes_list() -> list[Node]:
    """Every node that was not removed, by name."""
    return list(Node.objects.filter(removed=None).order_by("name"))


def node_get(node_id: str) -> Node | None:
    """One node that was not removed."""
    return Node.objects.filter(pk=node_id, removed=None).first()


def node_runs(node: Node) -> list[Run]:
    """The runs that hold slots of a node, oldest first."""
    return list(runs_on([node]).select_related("owner", "node").order_by("created"))


def node_shape(node: Node) -> dict[str, Any]:
    """A node as JSON."""
    runs = node_runs(node)
    gpus_of = node.inventory.get("gpus_of") or {}
    return {
        "id": node.pk,
        "name": node.name,
        "alive": node_alive(node),
        "status": node_status(node, busy=bool(runs)),
        "local": node.local,
        "drained": node.drained,
        "cordoned": node.cordoned,
        "slots": node.slots,
        "busy": sum(slots_needed(run.spec, node) for run in runs),
        "runs": [
            {
                "id": run.pk,
                "name": run.name,
                "state": str(run.state),
                "gpus": gpus_of.get(run.pk, []),
            }
            for run in runs
        ],
        "labels": node.labels,
        "own_labels": node.own_labels,
        "inventory": node.inventory,
        "joined": node.joined.isoformat() if node.joined else None,
        "last_seen": node.last_seen.isoformat() if node.last_seen else None,
        "expect_next_in": node.expect_next_in,
        "revoked": node.revoked.isoformat() if node.revoked else None,
    }


def node_status(node: Node, *, busy: bool = False) -> str:
    """One word: revoked, invited, gone, closed, draining, drained, cordoned, or ready."""
    if node.revoked is not None:
        return "revoked"
    if node.joined is None:
        return "invited"
    if not node_alive(node):
        return "gone"
    if node.closed is not None:
        return "closed"
    if node.drained:
        return "draining" if busy else "drained"
    return "cordoned" if node.cordoned else "ready"
