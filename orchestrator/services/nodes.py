"""Nodes: invite, join, speak."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from orchestrator.data_dir import private_write
from orchestrator.models import Node, Process, Run
from orchestrator.models.contact import node_alive
from orchestrator.selectors.wants import is_given_up
from orchestrator.services.hints import hint
from orchestrator.services.members import member_vouch
from orchestrator.services.node_labels import labels_checked, labels_joined
from orchestrator.services.node_readings import reading_note
from orchestrator.services.tokens import digest_of, secret_new
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import User

LOCAL_NAME = "local"
HEARTBEAT_SECONDS = TEMPO.heartbeat
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
HELD = (Process.CLAIMED, Process.ALIVE)


class NodeReplaced(ValueError):
    """Another process has joined under this node's name since."""


class BrokerUnreachable(ValueError):
    """Only this machine can use the broker; `proof_path` names a file that proves to be here."""

    def __init__(self, proof_path: Path) -> None:
        self.proof_path = proof_path
        super().__init__(
            "This server's broker is a folder on its own disk, so only the server's machine can "
            "join. To add other machines, start the server with BROKER_URL set to a Redis or "
            "RabbitMQ that they reach, for example BROKER_URL=redis://HOST:6379/0."
        )


def node_invite(
    *, name: str, user: User | None = None, slots: int = 1, labels: Iterable[str] = ()
) -> tuple[Node, str]:
    """Make a node that may join, and the token with which it does; the token is shown once."""
    name, labels = _name_checked(name), labels_checked(labels)
    token = secret_new("anneal_node_")
    try:
        with transaction.atomic():
            node = Node.objects.create(
                name=name, token_digest=digest_of(token), slots=slots, labels=labels
            )
    except IntegrityError:
        raise ValueError(f"A node called '{name}' exists already; choose another name.") from None
    hint("node", node=node.pk)
    return node, token


def local_node_token_ensure(data_dir: Path) -> str:
    """The token of this machine's own node, from DATA/node.token; made when it is missing."""
    path = Path(data_dir) / "node.token"
    token = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if not token:
        token = secret_new("anneal_node_")
        private_write(path, token)
    _proof_ensure(data_dir)
    Node.objects.update_or_create(
        name=LOCAL_NAME,
        removed=None,
        defaults={"token_digest": digest_of(token), "local": True, "revoked": None},
    )
    return token


def node_of_token(token: str) -> Node | None:
    """The node that this token belongs to, unless it was revoked."""
    return Node.objects.filter(token_digest=digest_of(token), revoked=None).first()


def node_join(
    *,
    token: str,
    inventory: dict[str, Any],
    name: str = "",
    slots: int | None = None,
    data_dir: str = "",
    proof: str = "",
    labels: Iterable[str] = (),
    artifacts: str = "",
) -> Node:
    """Let a machine work under the node of its token, from now on as its only process.

    Raises PermissionError for a bad token, BrokerUnreachable, and ValueError for a bad name or label, or
    another artifact store than this server's.
    """
    node = node_of_token(token)
    if node is None:
        raise PermissionError("This node token is unknown or was revoked.")
    _inventory_check(inventory)
    _artifacts_check(artifacts)
    here = _proof_check(proof)
    said = labels_checked(labels)
    node.labels = labels_joined(node.labels, said_before=node.own_labels, said_now=said)
    node.own_labels = said
    if name and name != node.name:
        _node_rename(node, _name_checked(name))
    now = timezone.now()
    node.local = here and _same_folder(data_dir)
    node.inventory = inventory
    if slots:
        node.slots = slots
    elif node.joined is None or node.local:
        node.slots = max(1, len(inventory.get("gpus", [])))
    node.joined = node.last_seen = node.heard_since = now
    node.instance = secrets.token_hex(8)
    node.closed = None
    node.save()
    hint("node", node=node.pk)
    return node


def node_heartbeat(
    *,
    node: Node,
    inventory: dict[str, Any],
    expect_next_in: float,
    runs: Iterable[dict[str, Any]] = (),
    instance: str = "",
) -> list[dict[str, Any]]:
    """Note that a node is there and vouches for `runs`; return the attempts among them to end.

    Raises NodeReplaced when a newer process has joined under the same name.
    """
    _inventory_check(inventory)
    now = timezone.now()
    with transaction.atomic():
        row = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        if instance and instance != row.instance:
            raise NodeReplaced(
                f"Another process has joined as '{row.name}'; give each machine its own token."
            )
        if not node_alive(row) or row.heard_since is None:
            row.heard_since = now
        row.inventory = inventory
        row.last_seen = now
        row.expect_next_in = min(max(expect_next_in, 1.0), 600.0)
        row.save(update_fields=["inventory", "last_seen", "expect_next_in", "heard_since"])
        reading_note(row, inventory, now)
        stale = [one for one in runs if not _vouch(row, one)]
    hint("node", node=node.pk)
    return stale


def _vouch(node: Node, one: dict[str, Any]) -> bool:
    """Note contact for an attempt that its node sees at work; False when it must end: a newer one has taken over,
    or the server gave it up, and its room here is wanted."""
    run_id, attempt = str(one.get("run", ""))[:12], one.get("attempt")
    if not isinstance(attempt, int):
        return True
    mine = Run.objects.filter(pk=run_id, attempt=attempt, process__in=HELD, node=node)
    if mine.update(last_contact=timezone.now()):
        return True
    if (goes_on := member_vouch(node, run_id, attempt)) is not None:
        return goes_on
    run = Run.objects.filter(pk=run_id, attempt__gte=attempt).first()
    return run is None or (run.attempt == attempt and not is_given_up(run, attempt))


def broker_of(node: Node) -> dict[str, Any]:
    """Where the node's worker finds the broker."""
    if settings.BROKER_URL.startswith("filesystem:"):
        return {"url": settings.BROKER_URL, "folder": str(settings.ANNEAL_DATA_DIR / "broker")}
    return {"url": settings.BROKER_URL}


def _artifacts_check(theirs: str) -> None:
    """What a node puts elsewhere would be nowhere for all others. One that names no store sends to the server."""
    ours = settings.ANNEAL_ARTIFACTS_URL
    if theirs and theirs != ours:
        kept = f"in {ours}" if ours else "in its own data directory"
        raise ValueError(
            f"This server keeps checkpoints {kept}; ANNEAL_ARTIFACTS_URL names another place where this node was "
            "started. Set it to the same URL for both, or leave it out here: then they go through the server."
        )


def _inventory_check(inventory: dict[str, Any]) -> None:
    """Placement reads these; a node of another version must not be able to break it."""
    gpus, methods = inventory.get("gpus", []), inventory.get("methods", {})
    listed = isinstance(gpus, list) and all(isinstance(gpu, dict) for gpu in gpus)
    counted = all(isinstance(gpu.get("memory", 0), int) for gpu in gpus) if listed else False
    known = counted and isinstance(methods, dict) and isinstance(inventory.get("cpus", 0), int)
    if not (known and _is_gpus_of(inventory.get("gpus_of") or {})):
        raise ValueError("The inventory is not one that this server understands.")


def _is_gpus_of(told: Any) -> bool:
    """Whether it says which run has which GPUs: {run: [index]}."""
    return isinstance(told, dict) and all(
        isinstance(given, list) and all(type(index) is int for index in given)
        for given in told.values()
    )


def _proof_ensure(data_dir: Path) -> Path:
    """The file that only this machine can read."""
    path = Path(data_dir) / "broker" / "proof"
    if not path.exists():
        private_write(path, secrets.token_urlsafe(32))
    return path


def _proof_check(proof: str) -> bool:
    """Whether the joining process is on this machine; raises BrokerUnreachable when it must be."""
    path = _proof_ensure(settings.ANNEAL_DATA_DIR)
    here = bool(proof) and secrets.compare_digest(
        proof.strip().encode(), path.read_text(encoding="utf-8").strip().encode()
    )
    if settings.BROKER_URL.startswith("filesystem:") and not here:
        raise BrokerUnreachable(path)
    return here


def _same_folder(data_dir: str) -> bool:
    return bool(data_dir) and os.path.realpath(data_dir) == os.path.realpath(
        settings.ANNEAL_DATA_DIR
    )


def _node_rename(node: Node, name: str) -> None:
    if Node.objects.filter(name=name, removed=None).exclude(pk=node.pk).exists():
        raise ValueError(f"Another node is called '{name}'; choose another --name.")
    if Run.objects.filter(node=node, process=Process.DISPATCHED).exists():
        raise ValueError(f"Runs are on their way to '{node.name}'; rename it when they started.")
    node.name = name


def _name_checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            "A node's name has 1 to 64 lower-case letters, digits, dots, dashes or underscores."
        )
    return name
