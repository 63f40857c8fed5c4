"""Placement: carry out the plan: runs go to nodes or give way, and the others are told why they wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.utils import timezone

from orchestrator.models import ENDED, Attempt, Desired, Node, Process, Run, State
from orchestrator.planner.plan import Why, plan
from orchestrator.selectors.inputs import final_checkpoint, parents_named
from orchestrator.selectors.situation import Situation, situation_read
from orchestrator.selectors.waiting import (
    no_node_sentence,
    none_fits_sentence,
    starts_by,
    too_few_sentence,
    wait_sentence,
)
from orchestrator.services.dispatch import launch_send
from orchestrator.services.facts import SCHEDULER, event_add, run_change, run_locked
from orchestrator.services.giving_way import run_give_way, run_stay
from orchestrator.services.hints import hint
from orchestrator.services.lost import sweep
from orchestrator.services.members import members_make

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from orchestrator.planner.plan import Plan, Seat, Wait

__all__ = ["run_dispatch", "schedule", "sweep"]

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
FREE = (Process.NONE, Process.EXITED)
HINTS_MOST = 100


def schedule() -> int:
    """Carry out the plan of this moment; return how many runs went out."""
    now = timezone.now()
    told = Told()
    with transaction.atomic():
        # One scheduler at a time counts what is free; a second one waits and then counts anew.
        nodes = list(Node.objects.select_for_update(no_key=True).order_by("pk"))
        busy = list(Run.objects.filter(process__in=BUSY).select_related("node"))
        waiting = dict(_queued(told))
        situation = situation_read(nodes=nodes, busy=busy, waiting=waiting, now=now)
        made = plan(situation.facts)
        gone = sum(
            run_dispatch(
                run=situation.runs[start.run],
                seats=[(situation.nodes[seat.machine], seat) for seat in start.seats],
            )
            for start in made.starts
        )
        _make_way(made, busy, situation)
        told.plan(made, situation, nodes, now)
    told.say()
    return gone


def _make_way(made: Plan, busy: list[Run], situation: Situation) -> None:
    """Ask those at work whom the plan names, and no longer those who need not leave."""
    for one in made.yields:
        run_give_way(run_id=one.run, to=situation.runs[one.leaves_for])
    asked = {hold.run for hold in situation.facts.holds if hold.leaves_for} - set(made.stays)
    for run in busy:
        if run.leaves_for and run.pk not in asked:
            run_stay(run_id=run.pk)


@dataclass
class Told:
    """What waiting runs are told: gathered while nodes are locked, written afterwards in few statements."""

    runs: dict[str, list[str]] = field(default_factory=dict)
    """Sentence -> ids of the runs."""
    lines: list[tuple[str, int, list[str], bool, datetime | None]] = field(default_factory=list)
    """Run id, place, nodes held for it, turn, and the moment; of those where something changed."""

    def why(self, run: Run, sentence: str) -> None:
        """Note the reason of a run, if it is a new one."""
        if sentence and sentence != run.reason:
            self.runs.setdefault(sentence, []).append(run.pk)

    def plan(self, made: Plan, situation: Situation, nodes: list[Node], now: datetime) -> None:
        """Note what a plan says of everybody who goes on waiting."""
        demands = {one.run: one for one in situation.facts.demands}
        closed = "" if situation.facts.machines else no_node_sentence(nodes)
        for wait in made.waits:
            run = situation.runs[wait.run]
            by = starts_by(wait, now, run.starts_by)
            self._line(run, wait, by)
            run.starts_by = by
        for wait in made.waits:
            run, demand = situation.runs[wait.run], demands[wait.run]
            if not situation.facts.machines:
                self.why(run, closed)
            elif not demand.fits and wait.run in situation.obstacles:
                self.why(run, none_fits_sentence(situation.obstacles[wait.run]))
            elif wait.why == Why.TOO_FEW:
                self.why(run, too_few_sentence(demand, situation))
            else:
                self.why(run, wait_sentence(wait, situation, run.starts_by, now))

    def _line(self, run: Run, wait: Wait, by: datetime | None) -> None:
        old = (run.place, run.held, run.has_turn, run.starts_by)
        if old != (wait.place, list(wait.held), wait.turn, by):
            self.lines.append((run.pk, wait.place, list(wait.held), wait.turn, by))

    def say(self) -> None:
        """Write it for the runs that still wait. Their state stays, so this is no event."""
        self._places_write()
        for sentence, ids in self.runs.items():
            with transaction.atomic():
                still = Run.objects.filter(pk__in=ids, state=State.QUEUED, process__in=FREE)
                still.update(reason=sentence)
                # Lists of many are refetched anyway; a hint may always be lost.
                for run_id in ids[:HINTS_MOST]:
                    hint("run", run=run_id)

    def _places_write(self) -> None:
        """All places in one statement: one run that starts moves everybody behind it."""
        if not self.lines:
            return
        columns: list[list[Any]] = [list(column) for column in zip(*self.lines, strict=True)]
        columns[2] = ["{" + ",".join(names) + "}" for names in columns[2]]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PLACES, columns)
            for run_id in columns[0][:HINTS_MOST]:
                hint("run", run=run_id)


_PLACES = """
    UPDATE orchestrator_run r
    SET place = v.place, held = v.held::text[], has_turn = v.turn, starts_by = v.by
    FROM unnest(%s::text[], %s::int[], %s::text[], %s::bool[], %s::timestamptz[])
        AS v(id, place, held, turn, by)
    WHERE r.id = v.id AND r.state = 'queued' AND r.process IN ('none', 'exited')
"""


def run_dispatch(*, run: Run, seats: Sequence[tuple[Node, Seat]]) -> bool:
    """Send a queued run to its machines, the first of which leads it, under a new attempt number; False when
    somebody was first."""
    number = run.attempt + 1
    (node, seat), *further = seats
    with transaction.atomic():
        won = Run.objects.filter(
            pk=run.pk,
            attempt=run.attempt,
            process__in=FREE,
            desired=Desired.RUN,
            state=State.QUEUED,
        ).update(
            attempt=number,
            process=Process.DISPATCHED,
            node=node,
            last_contact=None,
            place=None,
            held=[],
            has_turn=False,
            starts_by=None,
            leaves_for="",
        )
        if won != 1:
            return False
        attempt = Attempt.objects.create(
            run_id=run.pk,
            number=number,
            node=node,
            sent=timezone.now(),
            slots=seat.slots,
            gpus=list(seat.gpus),
        )
        members_make(attempt, further)
        locked = run_locked(run.pk)
        names = ", ".join(each.name for each, _ in seats)
        run_change(locked, who=SCHEDULER, reason=f"Sent to {names}.")
        for each, _ in seats:
            hint("node", node=each.pk)
            transaction.on_commit(
                partial(launch_send, node_name=each.name, run_id=run.pk, attempt=number)
            )
    return True


def _queued(told: Told) -> Iterator[tuple[Run, bool]]:
    """Queued runs, and whether each could start now; those whose parent failed fail with it."""
    found = Run.objects.filter(state=State.QUEUED, process__in=FREE, desired=Desired.RUN)
    for run in found.select_related("node").order_by("created"):
        through = _parents_are_through(run, parents_named(run.spec), told)
        if through is not None:
            yield run, through


def _parents_are_through(run: Run, parents: Iterable[str], told: Told) -> bool | None:
    """Whether all runs that this one starts from have finished; None when it failed with one of them."""
    known = Run.objects.in_bulk(parents) if parents else {}
    for run_id in parents:
        parent = known.get(run_id)
        if parent is None:
            _fail(run, f"Run {run_id}, which it should start from, was deleted.")
        elif parent.state == State.FINISHED and final_checkpoint(parent) is not None:
            continue
        elif parent.state == State.FINISHED:
            _fail(run, f"Run {parent} finished and left no checkpoint to start from.")
        elif parent.state in ENDED:
            _fail(run, f"Run {parent}, which it should start from, has {_ended_how(parent)}.")
        else:
            told.why(run, f"Waits for run {parent}, which is {parent.state}.")
            return False
        return None
    return True


def _ended_how(parent: Run) -> str:
    return "failed" if parent.state == State.FAILED else "been stopped"


def _fail(run: Run, why: str) -> None:
    with transaction.atomic():
        locked = run_locked(run.pk)
        if locked.state == State.QUEUED and locked.process in FREE:
            run_change(locked, who=SCHEDULER, process=Process.EXITED, cause="parent", reason=why)
            event_add(locked, "alert", level="error", code="parent", message=why)
