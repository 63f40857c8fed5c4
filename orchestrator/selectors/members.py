"""The machines of gangs: which further ones hold room for which run, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import F, Q
from django.utils.crypto import salted_hmac

from orchestrator.models import Attempt, Member, Process, Run
from trainer.gang import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from orchestrator.models import Node

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)


def members_holding() -> QuerySet[Member]:
    """Members of the attempts that are on their way or at work: each holds room until its run has ended."""
    current = Member.objects.filter(
        attempt__run__process__in=BUSY, attempt__number=F("attempt__run__attempt")
    )
    return current.select_related("attempt__run", "node").order_by("attempt", "index")


def runs_on(nodes: Iterable[Node]) -> QuerySet[Run]:
    """The runs that hold room of any of these nodes, as their first machine or a further one."""
    found = list(nodes)
    held = members_holding().filter(node__in=found).values("attempt__run")
    return Run.objects.filter(Q(node__in=found) | Q(pk__in=held), process__in=BUSY)


def members_by_node(nodes: Iterable[Node]) -> dict[str, list[Run]]:
    """The runs of which each node is a further machine."""
    found: dict[str, list[Run]] = {}
    for member in members_holding().filter(node__in=list(nodes)).order_by("attempt__run__created"):
        found.setdefault(member.node_id, []).append(member.attempt.run)
    return found


def machines_of(run: Run) -> list[str]:
    """The names of the machines of its newest attempt, the first one first; [] before there is one."""
    names = [run.node.name] if run.node else []
    if machines_wanted(run.spec) > 1:
        further = Member.objects.filter(attempt__run=run, attempt__number=run.attempt)
        names += [
            name or "a machine that was removed"
            for name in further.order_by("index").values_list("node__name", flat=True)
        ]
    return names


def machines_wanted(spec: dict[str, Any]) -> int:
    """Machines that a spec asks for at the same time."""
    asked = spec.get("resources", {}).get("nodes", 1)
    return asked if isinstance(asked, int) else 1


def gang_of(attempt: Attempt, index: int) -> dict[str, Any] | None:
    """What a machine is told of its place; None where there is one machine.

    The secret is the same for all members of this attempt, known to nobody else, and stored nowhere.
    """
    members = list(attempt.members.select_related("node").order_by("index"))
    if not members:
        return None
    nodes = [attempt.node, *(member.node for member in members)]
    words = f"{attempt.run_id}:{attempt.number}:{attempt.dispatched.isoformat()}"
    return {
        "index": index,
        "names": [node.name if node else "" for node in nodes],
        "secret": salted_hmac("anneal.gang", words, algorithm="sha256").hexdigest(),
    }


def rendezvous_of(attempt: Attempt) -> dict[str, Any] | None:
    """Where the first machine awaits the others: `ready`, `address`, `port`. None when the attempt is over."""
    run = attempt.run
    over = attempt.number != run.attempt or attempt.ended is not None or run.process not in BUSY
    if over:
        return None
    told = attempt.rendezvous
    return {
        "ready": bool(told),
        "address": str(told.get("address", "")),
        "port": int(told.get("port", 0)),
    }


def network_of(node: Node) -> str:
    """What a machine's address is within: machines of one gang must be within the same; "" where it has none."""
    address = node.inventory.get("address")
    if not isinstance(address, str) or not address:
        return ""
    return f"host {node.inventory.get('host', '')}" if is_loopback(address) else "network"
