"""The sweep: send lost messages again, notice who fell silent, and put lost runs back into the queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Attempt, Desired, Node, Process, Run, ShipReport, State, Stream
from orchestrator.models.contact import GRACE, LEASE, in_contact, node_alive
from orchestrator.selectors.members import machines_wanted
from orchestrator.selectors.stalls import stall_reason, stall_standing
from orchestrator.services.dispatch import launch_send, schedule_soon
from orchestrator.services.facts import SCHEDULER, run_change, run_locked
from orchestrator.services.members import (
    members_end,
    not_taking,
    silent_member,
    unclaimed_nodes,
)
from orchestrator.services.outcomes import HELD, Ending, attempt_end
from trainer.tempo import TEMPO

SEND_AGAIN = timedelta(seconds=TEMPO.send_again)
LOST_FOR = timedelta(seconds=TEMPO.lost_for)
"""How long a run is shown as lost before it is given to another node."""


def sweep() -> None:
    """Look once at every run that is on its way or at work."""
    now = timezone.now()
    for run_id in Run.objects.filter(process=Process.DISPATCHED).values_list("pk", flat=True):
        _dispatched(run_id, now)
    heard_since = _hearing_since()
    for run_id in Run.objects.filter(process__in=HELD).values_list("pk", flat=True):
        _held(run_id, now, heard_since)


def _dispatched(run_id: str, now: datetime) -> None:
    """Send the message again, or take it back from a node that does not take it."""
    with transaction.atomic():
        run = run_locked(run_id)
        row = Attempt.objects.select_related("node").filter(run=run, number=run.attempt).first()
        if run.process != Process.DISPATCHED or row is None:
            return
        _send_or_take_back(run, row, [row.node, *unclaimed_nodes(row)], now)


def _send_or_take_back(run: Run, row: Attempt, nodes: list[Node | None], now: datetime) -> None:
    """Send the order again to those machines that have not taken it, or take it back from all."""
    if name := not_taking(row, nodes, now):
        # A message that is still on its way carries the old number, and loses its claim.
        run_change(
            run,
            who=SCHEDULER,
            process=Process.NONE,
            reason=f"{name} did not take the run; looking for another node.",
            phase="",
            last_contact=None,
        )
        Attempt.objects.filter(pk=row.pk).update(
            ended=now, cause="node-lost", message=f"never claimed by {name}"
        )
        members_end(run.pk, row.number)
        transaction.on_commit(schedule_soon)
        return
    if Attempt.objects.filter(pk=row.pk, sent__lt=now - SEND_AGAIN).update(sent=now):
        for node in nodes:
            if node is not None:
                send = partial(launch_send, node_name=node.name, run_id=run.pk, attempt=run.attempt)
                transaction.on_commit(send)


def _hearing_since() -> datetime | None:
    """Since when this server has heard nodes without a break; None while it hears none.

    When web, database or network were down, silence proves nothing about the trainings.
    """
    alive = [node.heard_since for node in Node.objects.all() if node_alive(node)]
    return min((moment for moment in alive if moment is not None), default=None)


def _held(run_id: str, now: datetime, heard_since: datetime | None) -> None:
    with transaction.atomic():
        run = run_locked(run_id)
        if run.process not in HELD or run.last_contact is None:
            return
        node = run.node.name if run.node else "its node"
        if machines_wanted(run.spec) > 1 and _gang_broken(run, now, heard_since):
            return
        if in_contact(run, now):
            _silence_note(run, now)
            return
        since = f"{run.last_contact:%H:%M:%S} UTC"
        if run.state != State.LOST:
            reason = f"No word from {node} since {since}."
            run_change(run, who="server", reason=run.reason if _asked(run) else reason)
        if heard_since is None:
            return
        silent_since = max(run.last_contact, heard_since)
        if now - silent_since > LEASE + GRACE + LOST_FOR:
            message = f"Lost: no word from {node} since {since}."
            attempt_end(run, run.attempt, Ending("failed", "node-lost", message), who="server")
            transaction.on_commit(schedule_soon)


def _gang_broken(run: Run, now: datetime, heard_since: datetime | None) -> bool:
    """Whether the attempt was given up, as a further machine has not taken its order, or is silent."""
    row = Attempt.objects.get(run=run, number=run.attempt)
    if row.ended is not None:
        return False
    if missing := unclaimed_nodes(row):
        _send_or_take_back(run, row, missing, now)
        return run.process not in HELD
    # Once it trains its machines hold a line to each other, and know better than any silence tells.
    if run.process != Process.CLAIMED or heard_since is None:
        return False
    if (member := silent_member(row, now, heard_since)) is None:
        return False
    name = member.node.name if member.node else "a machine of it"
    since = f"{member.last_seen or row.dispatched:%H:%M:%S} UTC"
    message = f"Lost: no word from {name} (machine {member.index + 1}) since {since}."
    attempt_end(run, run.attempt, Ending("failed", "node-lost", message), who="server")
    transaction.on_commit(schedule_soon)
    return True


def _asked(run: Run) -> bool:
    return run.desired != Desired.RUN


def _silence_note(run: Run, now: datetime) -> None:
    """The node is there, but no word of its trainer came as promised: say so, and leave the state as it is."""
    if run.process != Process.ALIVE or _asked(run):
        return
    heard = (
        Stream.objects.filter(run=run, attempt=run.attempt, source="trainer")
        .values_list("received", flat=True)
        .first()
    )
    if heard is None or now <= heard + timedelta(seconds=run.expect_next_in) + GRACE:
        return
    promised = f"it had promised to speak within {run.expect_next_in:.0f} s."
    reason = f"The trainer has said nothing since {heard:%H:%M:%S} UTC; {promised}"
    if (stall := stall_standing(run)) is not None:
        # Host, which sits beside the trainer, has seen more of it than its silence. Older lines that arrive
        # behind its alert may have cleared the reason.
        run_change(run, who="server", reason=stall_reason(stall.data.get("data")))
        return
    report = ShipReport.objects.filter(run=run, attempt=run.attempt).first()
    if report is not None and now > max(heard, report.received) + GRACE:
        reason = (
            f"Nothing of the trainer has arrived since {heard:%H:%M:%S} UTC; {promised} "
            "It may have: ship, which carries its words, is silent too."
        )
    run_change(run, who="server", reason=reason)
