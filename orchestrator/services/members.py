"""The further machines of a gang: they claim, their nodes vouch for them, and a silent one ends it for all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.models import Attempt, Desired, Member, Process, Run
from orchestrator.models.contact import GRACE, LEASE, node_alive
from orchestrator.services.tokens import digest_of
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.models import Node
    from orchestrator.planner.plan import Seat

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
UNCLAIMED = timedelta(seconds=TEMPO.unclaimed)
"""How long a node that is there may leave a message unclaimed before another one may have it."""
LOST_FOR = timedelta(seconds=TEMPO.lost_for)
ADDRESS_MOST = 255


def members_make(attempt: Attempt, seats: Iterable[tuple[Node, Seat]]) -> None:
    """Note the further machines of a new attempt, with what it holds of each."""
    Member.objects.bulk_create(
        Member(attempt=attempt, node=node, index=index, slots=seat.slots, gpus=list(seat.gpus))
        for index, (node, seat) in enumerate(seats, start=1)
    )


def member_claim(run: Run, attempt: int, node: Node, token: str) -> Member | None:
    """Give a node its membership and the lease; None when it has none, or the message is old or doubled.

    `run` is locked.
    """
    if run.attempt != attempt or run.process not in BUSY or run.desired != Desired.RUN:
        return None
    now = timezone.now()
    mine = Member.objects.filter(
        attempt__run=run, attempt__number=attempt, attempt__ended=None, node=node, ended=None
    )
    won = mine.filter(claimed=None).update(
        claimed=now, last_seen=now, lease_digest=digest_of(token)
    )
    return mine.select_related("attempt").get() if won == 1 else None


def member_of_lease(token: str) -> Attempt | None:
    """The attempt of the member that this token belongs to, or of which it is the first machine's own."""
    if not token:
        return None
    digest = digest_of(token)
    member = Member.objects.select_related("attempt__run").filter(lease_digest=digest).first()
    if member is not None:
        return member.attempt
    return Attempt.objects.select_related("run").filter(lease_digest=digest).first()


def member_vouch(node: Node, run_id: str, attempt: int) -> bool | None:
    """Note that a node sees its part of a gang at work. None: it has none; False: that part must end."""
    mine = Member.objects.filter(attempt__run=run_id, attempt__number=attempt, node=node)
    member = mine.select_related("attempt__run").first()
    if member is None:
        return None
    run = member.attempt.run
    if member.ended is not None or run.attempt != attempt or run.process not in BUSY:
        return False
    mine.update(last_seen=timezone.now())
    return True


def members_end(run_id: str, attempt: int) -> None:
    """The attempt has ended: none of its machines holds anything any more."""
    open_ones = Member.objects.filter(attempt__run=run_id, attempt__number=attempt, ended=None)
    open_ones.update(ended=timezone.now())


def member_fail(run: Run, attempt: int, node: Node, cause: str) -> bool:
    """Note that the attempt cannot go on for the sake of this node; False when it is no member."""
    mine = Member.objects.filter(
        attempt__run=run, attempt__number=attempt, node=node, claimed__isnull=False, ended=None
    )
    return mine.update(cause=cause, ended=timezone.now()) == 1


def rendezvous_note(run: Run, attempt: int, told: Any) -> None:
    """Note where the first machine of the current attempt awaits the others."""
    if not isinstance(told, dict):
        return
    address, port = told.get("address"), told.get("port")
    known = isinstance(address, str) and 0 < len(address) <= ADDRESS_MOST
    if known and type(port) is int and 0 < port < 1 << 16:
        rows = Attempt.objects.filter(run=run, number=attempt, ended=None)
        rows.update(rendezvous={"address": address, "port": port})


def unclaimed_nodes(attempt: Attempt) -> list[Node | None]:
    """The further machines that have not taken their order yet; None for one that was removed."""
    waiting = attempt.members.select_related("node").filter(claimed=None, ended=None)
    return [member.node for member in waiting.order_by("index")]


def not_taking(attempt: Attempt, nodes: Iterable[Node | None], now: datetime) -> str:
    """The first of these machines, which have not taken their order yet, that will not take it, or ""."""
    late = now - attempt.dispatched > UNCLAIMED
    for node in nodes:
        if node is None:
            return "its node"
        if late or not node_alive(node) or node.closed:
            return node.name
    return ""


def silent_member(attempt: Attempt, now: datetime, heard_since: datetime) -> Member | None:
    """A member that took its order, and for which its node has not vouched for longer than a lease and grace."""
    for member in attempt.members.select_related("node").filter(ended=None).exclude(claimed=None):
        seen = max(member.last_seen or attempt.dispatched, heard_since)
        if now - seen > LEASE + GRACE + LOST_FOR:
            return member
    return None
