"""Placement: give queued runs to nodes that fit, and tell every other one why it waits."""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from orchestrator.models import ENDED, Attempt, Desired, Node, Process, Run, State
from orchestrator.selectors.fitting import Place, obstacle, slots_needed
from orchestrator.selectors.inputs import final_checkpoint
from orchestrator.services.dispatch import launch_send
from orchestrator.services.facts import SCHEDULER, event_add, run_change, run_locked
from orchestrator.services.hints import hint
from orchestrator.services.lost import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["run_dispatch", "schedule", "sweep"]

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
FREE = (Process.NONE, Process.EXITED)


def schedule() -> int:
    """Dispatch what fits, by priority, then fairness, then age; return how many runs went out."""
    dispatched = 0
    with transaction.atomic():
        # One scheduler at a time counts the free slots; a second one waits and then counts anew.
        nodes = list(Node.objects.select_for_update(no_key=True).order_by("pk"))
        busy = list(Run.objects.filter(process__in=BUSY).select_related("node"))
        places = _places(nodes, busy)
        working = Counter(run.owner_id for run in busy)
        waiting = deque(_in_order(_queued(), working))
        while waiting:
            run = waiting.popleft()
            place, why = _place_for(run, places)
            if place is None:
                _tell(run, why)
            elif run_dispatch(run=run, node=place.node):
                place.free -= slots_needed(run.spec, place.node)
                working[run.owner_id] += 1
                dispatched += 1
                waiting = deque(_in_order(waiting, working))
    return dispatched


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


def _queued() -> Iterable[Run]:
    """Queued runs whose parent is through; the others learn why they wait, or fail with it."""
    found = Run.objects.filter(state=State.QUEUED, process__in=FREE, desired=Desired.RUN)
    for run in found.select_related("waits_for", "node").order_by("created"):
        if run.attempt > 0 or not _waits_for_parent(run):
            yield run


def _waits_for_parent(run: Run) -> bool:
    parent = run.waits_for
    if parent is None:
        if run.spec.get("model", {}).get("name", "").startswith("run:"):
            _fail(run, "The run that it should start from was deleted.")
            return True
        return False
    if parent.state == State.FINISHED:
        if final_checkpoint(parent) is not None:
            return False
        _fail(run, f"Run {parent} finished and left no checkpoint to start from.")
    elif parent.state in ENDED:
        _fail(run, f"Run {parent}, which it should start from, has {_ended_how(parent)}.")
    else:
        _tell(run, f"Waits for run {parent}, which is {parent.state}.")
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


def _tell(run: Run, why: str) -> None:
    if why and why != run.reason:
        with transaction.atomic():
            locked = run_locked(run.pk)
            if locked.state == State.QUEUED and locked.process in FREE:
                run_change(locked, who=SCHEDULER, reason=why)


def _fail(run: Run, why: str) -> None:
    with transaction.atomic():
        locked = run_locked(run.pk)
        if locked.state == State.QUEUED and locked.process in FREE:
            run_change(locked, who=SCHEDULER, process=Process.EXITED, cause="parent", reason=why)
            event_add(locked, "alert", level="error", code="parent", message=why)
