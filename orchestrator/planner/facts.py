"""What the planner is told: machines, what holds them, what waits, and who has used how much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gpu:
    """One graphics processor of a machine."""

    index: int
    memory: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Machine:
    """A node that takes runs now."""

    id: str
    slots: int
    """Runs that it takes at a time; one on several GPUs takes as many slots."""
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Hold:
    """What one run has of one machine."""

    run: str
    owner: str
    machine: str
    slots: int = 1
    gpus: tuple[int, ...] = ()
    """Indices."""
    priority: int = 0
    ends_in: float | None = None
    """Seconds until it has ended for certain or by its pace; None while nobody can tell."""
    at_work: float = 0.0
    """Seconds since it began."""
    yields: bool = False
    """Whether it may be asked to save a checkpoint and go back into the queue."""
    leaves_for: str = ""
    """The run for which it has been asked already."""


@dataclass(frozen=True)
class Demand:
    """A run that waits."""

    run: str
    owner: str
    age: float
    """Seconds since the epoch at which it was launched: the lowest is the oldest."""
    priority: int = 0
    gpus: int | None = None
    """GPUs on each machine; None takes one where the machine has any."""
    memory: int = 0
    """Bytes that each GPU must have."""
    machines: int = 1
    """Machines that it needs at the same moment, all or none."""
    fits: frozenset[str] = frozenset()
    """Machines on which it could run if they were empty."""
    lasts: float | None = None
    """Seconds after which it will have ended for certain; None when it sets no such limit."""
    home: str = ""
    """The machine where it worked before: its checkpoints are at hand there."""
    held_for_it: tuple[str, ...] = ()
    """Machines that an earlier plan reserved for it."""
    turn: bool = False
    """Whether an earlier plan gave it the turn of its priority, which it keeps until it starts."""
    ready: bool = True
    """Whether it could start now, given room; otherwise it has a place in the line and no more."""

    def gpus_on(self, machine: Machine) -> int:
        """GPUs that it takes there."""
        if self.gpus is None:
            return 1 if machine.gpus else 0
        return self.gpus if machine.gpus else 0

    def slots_on(self, machine: Machine) -> int:
        """Slots that it takes there: one per GPU, at least one."""
        return max(1, self.gpus_on(machine))

    @property
    def units(self) -> int:
        """What it is counted with in its owner's share."""
        return self.machines * max(1, self.gpus or 1)


@dataclass(frozen=True)
class Facts:
    """Everything that a plan depends on."""

    machines: tuple[Machine, ...]
    holds: tuple[Hold, ...] = ()
    demands: tuple[Demand, ...] = ()
    used: Mapping[str, float] = field(default_factory=dict)
    """Unit-seconds per owner, older ones counted less (see `line`)."""
