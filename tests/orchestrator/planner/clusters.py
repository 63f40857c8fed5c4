"""Random clusters and lines of runs for hypothesis, and a simulated scheduler that lives through time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from orchestrator.planner.facts import Demand, Facts, Gpu, Hold, Machine
from orchestrator.planner.plan import Plan, Start, plan

if TYPE_CHECKING:
    from random import Random

GIB = 2**30
MEMORIES = (16 * GIB, 40 * GIB, 80 * GIB)
OWNERS = ("ada", "bob", "cleo")


@st.composite
def machines(draw: st.DrawFn) -> tuple[Machine, ...]:
    """One to four machines, with or without GPUs of several sizes."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        gpus = tuple(
            Gpu(i, draw(st.sampled_from(MEMORIES))) for i in range(draw(st.integers(0, 4)))
        )
        found.append(Machine(f"m{number}", draw(st.integers(1, 5)), gpus))
    return tuple(found)


@st.composite
def demands(draw: st.DrawFn, cluster: tuple[Machine, ...], run: str) -> Demand:
    """A run that waits; it fits machines that are large enough, less some that it dislikes."""
    wants = draw(st.sampled_from([None, None, 0, 1, 2, 3]))
    memory = draw(st.sampled_from([0, 0, *MEMORIES])) if wants != 0 else 0
    demand = Demand(
        run=run,
        owner=draw(st.sampled_from(OWNERS)),
        age=float(draw(st.integers(0, 50))),
        priority=draw(st.sampled_from([0, 0, 0, 1, 5])),
        gpus=wants,
        memory=memory,
        machines=draw(st.sampled_from([1, 1, 1, 2])),
        lasts=draw(st.sampled_from([None, None, 60.0, 600.0])),
        ready=draw(st.sampled_from([True, True, True, False])),
        turn=draw(st.sampled_from([False, False, False, True])),
    )
    disliked = draw(st.sets(st.sampled_from([one.id for one in cluster]), max_size=2))
    return replace(demand, fits=fitting(demand, cluster) - disliked)


def fitting(demand: Demand, cluster: tuple[Machine, ...]) -> frozenset[str]:
    """The machines on which the run could work if they were empty."""
    found = set()
    for machine in cluster:
        large = [gpu for gpu in machine.gpus if gpu.memory >= demand.memory]
        least = demand.gpus if demand.gpus is not None else int(bool(demand.memory))
        enough = max(least, demand.gpus_on(machine)) <= len(large)
        if enough and demand.slots_on(machine) <= machine.slots:
            found.add(machine.id)
    return frozenset(found)


@st.composite
def situations(draw: st.DrawFn) -> Facts:
    """A cluster in the middle of its work: what an earlier plan started is at work, others wait."""
    cluster = draw(machines())
    before = tuple(draw(demands(cluster, f"old{i}")) for i in range(draw(st.integers(0, 8))))
    started = plan(Facts(cluster, demands=before)).starts
    known = {one.run: one for one in before}
    holds = tuple(
        replace(
            hold,
            ends_in=draw(st.sampled_from([None, 30.0, 300.0, 3000.0])),
            yields=draw(st.booleans()),
            at_work=float(draw(st.integers(0, 100))),
        )
        for start in started
        for hold in holds_of(known[start.run], start)
    )
    waiting = tuple(draw(demands(cluster, f"new{i}")) for i in range(draw(st.integers(0, 12))))
    used = {owner: draw(st.sampled_from([0.0, 59.0, 4000.0, 1e6])) for owner in OWNERS}
    return Facts(cluster, holds, waiting, used)


def holds_of(demand: Demand, start: Start) -> list[Hold]:
    """What a start takes."""
    return [
        Hold(
            demand.run,
            demand.owner,
            seat.machine,
            seat.slots,
            seat.gpus,
            demand.priority,
            demand.lasts,
        )
        for seat in start.seats
    ]


def after(facts: Facts, made: Plan) -> tuple[Hold, ...]:
    """The holds once a plan has been carried out; who gives way is still there."""
    known = {one.run: one for one in facts.demands}
    leaving = {one.run: one.leaves_for for one in made.yields}
    held = [replace(h, leaves_for=leaving.get(h.run, h.leaves_for)) for h in facts.holds]
    return (*held, *(h for s in made.starts for h in holds_of(known[s.run], s)))


@dataclass
class Simulation:
    """A cluster that lives: runs arrive, start, end after their time, give way and come back."""

    cluster: tuple[Machine, ...]
    tells: bool = True
    """Whether runs say how long they will take."""
    now: float = 0.0
    waiting: dict[str, Demand] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    """Seconds of work that each run has left."""
    held: dict[str, list[Hold]] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    first_promise: dict[str, float] = field(default_factory=dict)
    """When a run was to start, by the first plan in which it stood first in the line."""
    preempted: list[str] = field(default_factory=list)
    yields: set[str] = field(default_factory=set)
    used: dict[str, float] = field(default_factory=dict)
    _known: dict[str, Demand] = field(default_factory=dict)
    _events: list[tuple[float, int, str, str]] = field(default_factory=list)
    _count: int = 0

    def launch(self, demand: Demand, work: float, at: float = 0.0, yields: bool = False) -> None:
        """Let a run arrive at a moment, with so many seconds of work to do."""
        self._known[demand.run] = replace(demand, age=at, lasts=work if self.tells else None)
        self.work[demand.run] = work
        if yields:
            self.yields.add(demand.run)
        self._at(at, "arrives", demand.run)

    def run(self, most: int = 20_000) -> None:
        """Live until nothing happens any more."""
        for _ in range(most):
            if not self._events:
                return
            self.now = self._events[0][0]
            while self._events and self._events[0][0] == self.now:
                _, _, what, run = heapq.heappop(self._events)
                getattr(self, f"_{what}")(run)
            self._schedule()
        raise AssertionError("it never comes to rest")

    def facts(self) -> Facts:
        """What the planner is told now."""
        holds = tuple(
            replace(
                hold,
                ends_in=self.work[run] - (self.now - self.began[run]) if self.tells else None,
                at_work=self.now - self.began[run],
                yields=run in self.yields,
            )
            for run, several in sorted(self.held.items())
            for hold in several
        )
        return Facts(self.cluster, holds, tuple(self.waiting.values()), dict(self.used))

    def _schedule(self) -> None:
        facts = self.facts()
        made = plan(facts)
        assert_sound(facts, made)
        for start in made.starts:
            demand = self.waiting.pop(start.run)
            self.held[start.run] = holds_of(demand, start)
            self.began[start.run] = self.now
            self._at(self.now + self.work[start.run], "ends", start.run)
        for wait in made.waits:
            self.waiting[wait.run] = replace(
                self.waiting[wait.run], held_for_it=wait.held, turn=wait.turn
            )
            if wait.starts_in is not None and wait.place == 1:
                self.first_promise.setdefault(wait.run, self.now + wait.starts_in)
        for leaving in made.yields:
            self.held[leaving.run] = [
                replace(hold, leaves_for=leaving.leaves_for) for hold in self.held[leaving.run]
            ]
            self._at(self.now + 5.0, "leaves", leaving.run)

    def _arrives(self, run: str) -> None:
        self.waiting[run] = self._known[run]

    def _ends(self, run: str) -> None:
        if run in self.held and self.now >= self.began[run] + self.work[run] - 1e-6:
            self._release(run)
            self.ended[run] = self.now

    def _leaves(self, run: str) -> None:
        if run in self.held:
            self.work[run] -= self.now - self.began[run]
            self._release(run)
            self.preempted.append(run)
            self.waiting[run] = replace(
                self._known[run], lasts=self.work[run] if self.tells else None
            )

    def _release(self, run: str) -> None:
        hold = self.held.pop(run)
        owner = hold[0].owner
        units = sum(one.slots for one in hold)
        self.used[owner] = self.used.get(owner, 0.0) + units * (self.now - self.began[run])

    def _at(self, moment: float, what: str, run: str) -> None:
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, what, run))


def assert_sound(facts: Facts, made: Plan) -> None:
    """No slot and no GPU is given twice, every run is decided once, gangs come whole, seats are fit."""
    decided = [one.run for one in (*made.starts, *made.waits)]
    assert sorted(decided) == sorted(one.run for one in facts.demands)
    assert [one.place for one in made.waits] == [*range(1, len(made.waits) + 1)]
    known = {one.run: one for one in facts.demands}
    by_id = {machine.id: machine for machine in facts.machines}
    for start in made.starts:
        demand = known[start.run]
        assert demand.ready
        assert len({seat.machine for seat in start.seats}) == len(start.seats) == demand.machines
        for seat in start.seats:
            machine = by_id[seat.machine]
            memory = {gpu.index: gpu.memory for gpu in machine.gpus}
            assert seat.machine in demand.fits
            assert len(seat.gpus) == demand.gpus_on(machine)
            assert all(memory[index] >= demand.memory for index in seat.gpus)
    holds = after(facts, made)
    for machine in facts.machines:
        here = [hold for hold in holds if hold.machine == machine.id]
        taken = [index for hold in here for index in hold.gpus]
        assert sum(hold.slots for hold in here) <= machine.slots
        assert len(taken) == len(set(taken)) and set(taken) <= {g.index for g in machine.gpus}
    held = [name for wait in made.waits for name in wait.held]
    assert len(held) == len(set(held)), "a machine is held for two runs"
    at_work = {hold.run: hold for hold in facts.holds}
    for one in made.yields:
        victim = at_work[one.run]
        assert victim.yields and victim.priority < known[one.leaves_for].priority


def cluster_of(chance: Random, most: int = 6) -> tuple[Machine, ...]:
    """A random cluster."""
    return tuple(
        Machine(
            f"m{number}",
            slots := chance.randint(1, 8),
            tuple(Gpu(i, chance.choice(MEMORIES)) for i in range(chance.choice([0, slots, slots]))),
        )
        for number in range(chance.randint(1, most))
    )
