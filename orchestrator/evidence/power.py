"""How many prompts a difference needs to be found, and which difference the prompts at hand would find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair


@dataclass(frozen=True)
class Power:
    """What the prompts at hand can tell, by the spread that they show."""

    margin: float
    """The smallest difference that matters, in the unit of the scores."""
    at_margin: float
    """Chance that a true difference of `margin` would have been found with the prompts at hand."""
    detectable: float
    """The smallest true difference that would be found with a chance of `target`."""
    needed: int
    """Prompts in all that find `margin` with a chance of `target`."""
    more: int
    """Of these, how many are still missing; 0 where there are enough."""
    needed_for_observed: int | None
    """Prompts in all that would find a true difference as large as the observed one; None where nothing
    differs. A guess: the observed difference is itself uncertain."""
    target: float
    level: float


def prompts_needed(*, sd: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Prompts that a two-sided paired t test needs (noncentral t, Cohen 1988 ch. 2)."""
    raise NotImplementedError


def minimal_difference(
    *, sd: float, prompts: int, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest difference that so many prompts find with that power."""
    raise NotImplementedError


def power(
    pair: Pair,
    *,
    margin: float | None = None,
    target: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> Power:
    """Power of the pair at hand. `margin` None: see `default_margin`. With several comparisons alpha is
    divided by their number (Bonferroni, so never too hopeful)."""
    raise NotImplementedError


def default_margin(pair: Pair) -> float:
    """0.05 where all scores lie in 0..1; otherwise 0.2 standard deviations of the prompts' differences,
    Cohen's small effect."""
    raise NotImplementedError
