"""What a judge of pairs must be able to do: the base class of the evaluators."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from trainer.methods import Method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, in the order in which a judge sees them."""

    prompt: str
    left: str
    right: str
    row: Mapping[str, Any] = field(default_factory=dict)
    """The data row of the prompt."""
    repeat: int = 0
    """Which time this is that it is asked about in this order, from 0."""


@dataclass(frozen=True)
class Ruling:
    """What a judge said of a pair."""

    outcome: Literal["left", "right", "tie", "both-bad", ""]
    """Empty where there is none."""
    problem: str = ""
    """Why there is none."""
    said: str = ""
    """The judge's own words."""


class Evaluator(Method):
    """Says which of two answers is better. Runs on nodes only."""

    at_once: ClassVar[int] = 1
    """How many pairs `rulings` takes; a run can be stopped between two calls."""
    time_limit: ClassVar[float] = 300.0
    """Seconds after which a call of `rulings` counts as hung."""

    swap: bool = True
    """Ask about each pair in both orders, so that a liking for a side shows, and cancels out. Healthy: on."""
    repeats: int = Field(1, ge=1, le=32)
    """How often each order is asked: a judge that is sure says the same each time. Healthy: 1; 3 to 5 for
    self-consistency, at a temperature above 0."""

    def prepare(self) -> None:
        """See that it can work, before the run begins. Raises ValueError that says what to change."""

    @abstractmethod
    def ruling(self, pair: Pair) -> Ruling:
        """What it says of a pair, in the order in which it is shown."""

    def rulings(self, pairs: Sequence[Pair]) -> list[Ruling]:
        """The same of at most `at_once` pairs."""
        return [self.ruling(pair) for pair in pairs]
