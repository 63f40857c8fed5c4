"""The planner's facts, read from rows: machines that take runs, what holds them, and what waits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.models import Attempt, Desired, Member, Process
from orchestrator.planner.facts import Demand, Facts, Gpu, Hold, Machine
from orchestrator.selectors.fair_share import unit_seconds
from orchestrator.selectors.fitting import (
    GIB,
    gpus_wanted,
    needs_of,
    node_open,
    obstacle_of_run,
    obstacle_of_spec,
    slots_needed,
)
from orchestrator.selectors.members import machines_wanted, members_holding, network_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.models import Node, Run

HELD = (Process.CLAIMED, Process.ALIVE)
STARTUP = 120.0
"""Seconds that a run may take beside the training that `budget.max_minutes` limits: loading, saving."""
GIVEN_UP = "node-lost"
"""Cause of an attempt that nobody ended but the server, which heard nothing of it."""
ENDING = 60.0
"""Seconds within which a run that people stop or pause is taken to be gone."""


@dataclass
class Situation:
    """Facts, and what sentences about them need."""

    facts: Facts
    runs: dict[str, Run]
    """Those that wait."""
    nodes: dict[str, Node]
    obstacles: dict[str, list[str]] = field(default_factory=dict)
    """Why a run fits no open node, or too few, one sentence each."""


def situation_read(
    *, nodes: list[Node], busy: list[Run], waiting: dict[Run, bool], now: datetime
) -> Situation:
    """Everything that a plan depends on. `waiting` says of each run whether it could start, given room."""
    open_nodes = [node for node in nodes if node_open(node)]
    fits = _Fits(open_nodes)
    obstacles: dict[str, list[str]] = {}
    demands = []
    for run, ready in waiting.items():
        found, lacks = fits.of(run)
        if len(found) < machines_wanted(run.spec):
            obstacles[run.pk] = lacks
        demands.append(_demand(run, found, ready and bool(found)))
    facts = Facts(
        machines=tuple(map(_machine, open_nodes)),
        holds=(*_holds(busy, {node.pk for node in nodes}, now), *_strays(open_nodes, busy)),
        demands=tuple(demands),
        used={str(owner): used for owner, used in unit_seconds(now).items()},
    )
    runs = {run.pk: run for run in waiting}
    return Situation(facts, runs, {node.pk: node for node in nodes}, obstacles)


class _Fits:
    """Which nodes a run fits. Equal needs are looked at once: lines are long, and runs much alike."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._known: dict[str, dict[str, str]] = {}

    def of(self, run: Run) -> tuple[frozenset[str], list[str]]:
        """The ids of nodes that fit, and what stands in the way on the others."""
        key = needs_of(run.spec)
        if key not in self._known:
            self._known[key] = {node.pk: obstacle_of_spec(run.spec, node) for node in self._nodes}
        said = {
            node.pk: self._known[key][node.pk] or obstacle_of_run(run, node) for node in self._nodes
        }
        fits = frozenset(pk for pk, text in said.items() if not text)
        if machines_wanted(run.spec) > 1:
            fits = self._within_reach(fits)
        return fits, sorted(filter(None, said.values()))

    def _within_reach(self, fits: frozenset[str]) -> frozenset[str]:
        """Of the machines that fit those that reach each other, where most do."""
        networks: dict[str, set[str]] = {}
        for node in self._nodes:
            if node.pk in fits:
                networks.setdefault(network_of(node), set()).add(node.pk)
        largest = max(networks.items(), key=lambda one: (len(one[1]), one[0]), default=("", set()))
        return frozenset(largest[1])


def _machine(node: Node) -> Machine:
    gpus = enumerate(node.inventory.get("gpus", []))
    return Machine(
        id=node.pk,
        slots=node.slots,
        gpus=tuple(Gpu(gpu.get("index", place), int(gpu.get("memory", 0))) for place, gpu in gpus),
    )


def _demand(run: Run, fits: frozenset[str], ready: bool) -> Demand:
    resources = run.spec.get("resources", {})
    return Demand(
        run=run.pk,
        owner=str(run.owner_id),
        age=run.created.timestamp(),
        priority=run.priority,
        gpus=gpus_wanted(run.spec),
        memory=int(resources.get("min_vram_gb", 0) * GIB),
        machines=machines_wanted(run.spec),
        fits=fits,
        lasts=lasts_at_most(run),
        home=run.node_id or "",
        held_for_it=tuple(run.held),
        turn=run.has_turn,
        ready=ready,
    )


def _holds(busy: Iterable[Run], known: set[str], now: datetime) -> Iterable[Hold]:
    runs = {run.pk: run for run in busy}
    attempts = Attempt.objects.filter(run__in=runs).values_list(
        "run", "number", "slots", "gpus", "claimed"
    )
    of = {(run, number): rest for run, number, *rest in attempts}
    further: dict[str, list[Member]] = {}
    for member in members_holding().filter(node__in=known):
        further.setdefault(member.attempt.run_id, []).append(member)
    for run in runs.values():
        first = run.node_id in known
        slots, gpus, claimed = of.get(
            (run.pk, run.attempt), (slots_needed(run.spec, run.node) if first else 1, [], None)
        )
        at_work = (now - claimed).total_seconds() if claimed else 0.0
        yields = run.preemptible and run.process in HELD and run.desired == Desired.RUN
        hold = Hold(
            run=run.pk,
            owner=str(run.owner_id),
            machine=run.node_id or "",
            slots=slots,
            gpus=tuple(gpus),
            priority=run.priority,
            ends_in=_ends_in(run, at_work),
            at_work=at_work,
            yields=yields,
            leaves_for=run.leaves_for if yields else "",
        )
        if first:
            yield hold
        for one in further.get(run.pk, []):
            held = {"slots": one.slots, "gpus": tuple(one.gpus)}
            yield replace(hold, machine=one.node_id, **held)


def _strays(nodes: Iterable[Node], busy: Iterable[Run]) -> Iterable[Hold]:
    """GPUs in use by attempts that the server gave up without a word of theirs: their nodes are back, and say so.

    The next answer to their heartbeats ends them; until then nobody else may have these GPUs.
    """
    held = {(run.pk, run.node_id) for run in busy}
    held |= {(one.attempt.run_id, one.node_id) for one in members_holding()}
    for node in nodes:
        for run_id, given in (node.inventory.get("gpus_of") or {}).items():
            if not given or (run_id, node.pk) in held:
                continue
            last = Attempt.objects.select_related("run").filter(run=run_id, node=node)
            stray = last.exclude(ended=None).order_by("-number").first()
            if stray is not None and stray.cause == GIVEN_UP:
                yield _stray(stray.run, node, stray.slots, given)
                continue
            # A further machine ends its part a moment after the first one has said that the attempt is over.
            part = Member.objects.select_related("attempt__run").filter(
                attempt__run=run_id, node=node
            )
            member = part.exclude(ended=None).order_by("-attempt__number").first()
            if member is not None:
                yield _stray(member.attempt.run, node, member.slots, given)


def _stray(run: Run, node: Node, slots: int, given: Iterable[int]) -> Hold:
    return Hold(
        run=run.pk,
        owner=str(run.owner_id),
        machine=node.pk,
        slots=slots,
        gpus=tuple(given),
        priority=run.priority,
        ends_in=ENDING,
    )


def _ends_in(run: Run, at_work: float) -> float | None:
    """Seconds until a run at work has ended, by its limit or by the pace of its steps."""
    if run.desired != Desired.RUN:
        return ENDING
    known = []
    if (lasts := lasts_at_most(run)) is not None:
        known.append(lasts - at_work)
    pace = run.latest.get("time/step")
    if run.total_steps and isinstance(pace, (int, float)) and run.process == Process.ALIVE:
        known.append(max(0, run.total_steps - run.step) * float(pace) + STARTUP)
    return max(1.0, min(known)) if known else None


def lasts_at_most(run: Run) -> float | None:
    """Seconds after which a start of the run has ended for certain; None when it sets no such limit."""
    minutes: Any = run.knobs.get("budget.max_minutes")
    if minutes is None:
        minutes = run.spec.get("budget", {}).get("max_minutes", 0)
    return float(minutes) * 60 + STARTUP if minutes else None
