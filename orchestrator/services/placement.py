"""Placement: give queued runs to nodes that fit, and tell every other one why it waits."""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from orchestrator.models import ENDED, Attempt, Desired, Node, Process, Run, State
from orchestrator.selectors.fitting import Place, obstacle, slots_needed
from orchestrator.selectors.inputs import final_checkpoint, parents_named
from orchestrator.services.dispatch import launch_send
from orchestrator.services.facts import SCHEDULER, event_add, run_change, run_locked
from orchestrator.services.hints import hint
from orchestrator.services.lost import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["run_dispatch", "schedule", "sweep"]

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
FREE = (Process.NONE, Process.EXITED)
HINTS_MOST = 100


def schedule() -> int:
    """Dispatch what fits, by priority, then fairness, then age; return how many runs went out."""
    dispatched = 0
    told = Told()
    with transaction.atomic():
        # One scheduler at a time counts the free slots; a second one waits and then counts anew.
        nodes = list(Node.objects.select_for_update(no_key=True).order_by("pk"))
        busy = list(Run.objects.filter(process__in=BUSY).select_related("node"))
        places = _places(nodes, busy)
        working = Counter(run.owner_id for run in busy)
        waiting = deque(_in_order(_queued(told), working))
        while waiting:
            run = waiting.popleft()
            place, why = _place_for(run, places)
            if place is None:
                told.why(run, why)
            elif run_dispatch(run=run, node=place.node):
                place.free -= slots_needed(run.spec, place.node)
                working[run.owner_id] += 1
                dispatched += 1
                waiting = deque(_in_order(waiting, working))
    told.say()
    return dispatched


class Told:
    """Why runs wait: gathered while nodes are locked, written afterwards in few statements."""

    def __init__(self) -> None:
        self.runs: dict[str, list[str]] = {}

    def why(self, run: Run, sentence: str) -> None:
        """Note the reason of a run, if it is a new one."""
        if sentence and sentence != run.reason:
            self.runs.setdefault(sentence, []).append(run.pk)

    def say(self) -> None:
        """Write the reasons of the runs that still wait. Their state stays, so this is no event."""
        for sentence, ids in self.runs.items():
            with transaction.atomic():
                still = Run.objects.filter(pk__in=ids, state=State.QUEUED, process__in=FREE)
                still.update(reason=sentence)
                # Lists of many are refetched anyway; a hint may always be lost.
                for run_id in ids[:HINTS_MOST]:
                    hint("run", run=run_id)


def _in_order(runs: Iterable[Run], working: Counter[int]) -> list[Run]:
    """The owner with the fewest runs at work goes first; each dispatch changes the order."""
    return sorted(runs, key=lambda r: (-r.priority, working[r.owner_id], r.created, r.pk))


def run_dispatch(*, run: Run, node: Node) -> bool:
    """Send a queued run to a node under a new attempt number; False when somebody was first."""
    number = run.attempt + 1
    with transaction.atomic():
        won = Run.objects.filter(
            pk=run.pk,
            attempt=run.attempt,
            process__in=FREE,
            desired=Desired.RUN,
            state=State.QUEUED,
        ).update(attempt=number, process=Process.DISPATCHED, node=node, last_contact=None)
        if won != 1:
            return False
        Attempt.objects.create(run_id=run.pk, number=number, node=node, sent=timezone.now())
        locked = run_locked(run.pk)
        run_change(locked, who=SCHEDULER, reason=f"Sent to {node.name}.")
        hint("node", node=node.pk)
        transaction.on_commit(
            partial(launch_send, node_name=node.name, run_id=run.pk, attempt=number)
        )
    return True


def _queued(told: Told) -> Iterable[Run]:
    """Queued runs whose parents are through; the others learn why they wait, or fail with one."""
    found = Run.objects.filter(state=State.QUEUED, process__in=FREE, desired=Desired.RUN)
    for run in found.select_related("node").order_by("created"):
        if not (parents := parents_named(run.spec)) or _parents_are_through(run, parents, told):
            yield run


def _parents_are_through(run: Run, parents: list[str], told: Told) -> bool:
    known = Run.objects.in_bulk(parents)
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
    return True


def _ended_how(parent: Run) -> str:
    return "failed" if parent.state == State.FAILED else "been stopped"


def _places(nodes: list[Node], busy: list[Run]) -> list[Place]:
    used: Counter[str] = Counter()
    by_id = {node.pk: node for node in nodes}
    for run in busy:
        if run.node_id in by_id:
            used[run.node_id] += slots_needed(run.spec, by_id[run.node_id])
    return [Place(node, node.slots - used[node.pk]) for node in nodes]


def _place_for(run: Run, places: list[Place]) -> tuple[Place | None, str]:
    """A place for the run, or None and the sentence that says why there is none."""
    is_open = [place for place in places if place.is_open]
    if not is_open:
        return None, _no_node(places)
    obstacles = {place.node.name: obstacle(run, place.node) for place in is_open}
    fitting = [place for place in is_open if not obstacles[place.node.name]]
    if not fitting:
        return None, f"No node fits: {'; '.join(sorted(obstacles.values()))}."
    free = [place for place in fitting if place.free >= slots_needed(run.spec, place.node)]
    if not free:
        names = ", ".join(sorted(place.node.name for place in fitting))
        return None, f"Waits for a free slot on {names}."
    # Where it worked before, its checkpoints are at hand; else the emptiest node.
    return max(free, key=lambda p: (p.node.pk == run.node_id, p.free, p.node.name)), ""


def _no_node(places: list[Place]) -> str:
    joined = [place.node for place in places if place.node.joined and not place.node.revoked]
    if not joined:
        return "Waits for a node: none has joined yet."
    if all(node.closed for node in joined):
        return ""
    if any(node.drained for node in joined):
        return "Waits for a node: the ones that are connected are drained."
    return "Waits for a node: none is connected."


def _fail(run: Run, why: str) -> None:
    with transaction.atomic():
        locked = run_locked(run.pk)
        if locked.state == State.QUEUED and locked.process in FREE:
            run_change(locked, who=SCHEDULER, process=Process.EXITED, cause="parent", reason=why)
            event_add(locked, "alert", level="error", code="parent", message=why)
