"""What people decide about nodes: labels, slots, cordon, drain, a new token, none, removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Node
from orchestrator.selectors.nodes import node_runs
from orchestrator.services.hints import hint
from orchestrator.services.node_labels import labels_checked
from orchestrator.services.nodes import LOCAL_NAME
from orchestrator.services.tokens import digest_of, secret_new

if TYPE_CHECKING:
    from collections.abc import Iterable


def node_patch(
    *,
    node_id: str,
    drained: bool | None = None,
    cordoned: bool | None = None,
    labels: Iterable[str] | None = None,
    slots: int | None = None,
) -> Node:
    """Change what is given. Raises ValueError with a sentence that names the field."""
    with transaction.atomic():
        node = _locked(node_id)
        if drained is not None:
            node.drained = drained
        if cordoned is not None:
            node.cordoned = cordoned
        if labels is not None:
            node.labels = labels_checked(labels)
        if slots is not None:
            if slots < 1:
                raise ValueError(
                    "slots: a node has at least one slot; drain it to send it no runs."
                )
            node.slots = slots
        node.save(update_fields=["drained", "cordoned", "labels", "slots"])
        hint("node", node=node.pk)
    return node


def node_revoke(*, node_id: str) -> bool:
    """Take the node's token back; its running trainings go on until they end."""
    with transaction.atomic():
        node = _locked(node_id)
        _not_local(node, "its token lies on this machine and is made again at every start")
        changed = Node.objects.filter(pk=node.pk, revoked=None).update(revoked=timezone.now()) == 1
        hint("node", node=node.pk)
    return changed


def node_token_renew(*, node_id: str) -> tuple[Node, str]:
    """Give the node another token, shown once; the old one and the process that holds it are out."""
    with transaction.atomic():
        node = _locked(node_id)
        _not_local(node, "its token lies on this machine and is made again at every start")
        token = secret_new("anneal_node_")
        node.token_digest, node.revoked = digest_of(token), None
        node.save(update_fields=["token_digest", "revoked"])
        hint("node", node=node.pk)
    return node, token


def node_remove(*, node_id: str) -> Node:
    """Take a node off the list; its token works no more, its name is free, its runs keep their history.

    Raises ValueError while something runs on it.
    """
    with transaction.atomic():
        node = _locked(node_id)
        _not_local(node, "it belongs to this server and joins at every start")
        if runs := node_runs(node):
            names = ", ".join(run.name or run.pk for run in runs[:3])
            more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
            raise ValueError(
                f"{node.name} still runs {names}{more}; drain it and wait until it is empty, or stop "
                "them first."
            )
        now = timezone.now()
        node.revoked, node.removed = node.revoked or now, now
        node.save(update_fields=["revoked", "removed"])
        hint("node", node=node.pk)
    return node


def _locked(node_id: str) -> Node:
    node = Node.objects.select_for_update(no_key=True).filter(pk=node_id, removed=None).first()
    if node is None:
        raise ValueError(f"There is no node {node_id}.")
    return node


def _not_local(node: Node, why: str) -> None:
    if node.name == LOCAL_NAME:
        raise ValueError(f"{node.name} is this server's own node: {why}.")
