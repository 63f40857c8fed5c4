"""Nodes as people ask for them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Node, Process, Run
from orchestrator.models.contact import node_alive
from orchestrator.selectors.fitting import slots_needed

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)


def nodes_list() -> list[Node]:
    """Every node that was not revoked, by name."""
    return list(Node.objects.filter(revoked=None).order_by("name"))


def node_runs(node: Node) -> list[Run]:
    """The runs that hold slots of a node, oldest first."""
    found = Run.objects.filter(node=node, process__in=BUSY)
    return list(found.select_related("owner", "node").order_by("created"))


def node_shape(node: Node) -> dict[str, Any]:
    """A node as JSON."""
    runs = node_runs(node)
    return {
        "id": node.pk,
        "name": node.name,
        "alive": node_alive(node),
        "status": node_status(node),
        "local": node.local,
        "drained": node.drained,
        "slots": node.slots,
        "busy": sum(slots_needed(run.spec, node) for run in runs),
        "runs": [{"id": run.pk, "name": run.name, "state": str(run.state)} for run in runs],
        "labels": node.labels,
        "inventory": node.inventory,
        "joined": node.joined.isoformat() if node.joined else None,
        "last_seen": node.last_seen.isoformat() if node.last_seen else None,
    }


def node_status(node: Node) -> str:
    """One word: invited, gone, closed, drained, or ready."""
    if node.joined is None:
        return "invited"
    if not node_alive(node):
        return "gone"
    if node.closed is not None:
        return "closed"
    return "drained" if node.drained else "ready"
