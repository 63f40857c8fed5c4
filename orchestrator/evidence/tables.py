"""2x2 tables of two checkpoints on the same prompts, and McNemar's tests of them (Fagerland, Lydersen and
Laake 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair


@dataclass(frozen=True)
class Table:
    """Prompts by who solved them."""

    both: int
    candidate_only: int
    baseline_only: int
    neither: int

    @property
    def prompts(self) -> int:
        """All of them."""
        return self.both + self.candidate_only + self.baseline_only + self.neither

    @property
    def discordant(self) -> int:
        """Solved by one alone: the only prompts that tell the two apart."""
        return self.candidate_only + self.baseline_only


@dataclass(frozen=True)
class McNemar:
    """Two-sided p-values of "both solve equally many"."""

    exact: float
    """Binomial; never above its level, often far below it."""
    mid_p: float
    """Exact minus half the probability of what was seen; near its level, the one to use."""
    corrected: float
    """Chi-square with Edwards' correction for continuity."""
    statistic: float
    """That chi-square, one degree of freedom."""


def table(pair: Pair) -> Table:
    """Who solved which. ValueError unless each prompt has one answer a side that is 0 or 1."""
    raise NotImplementedError


def mcnemar(found: Table) -> McNemar:
    """McNemar's tests of a table; 1 for all of them where no prompt tells the two apart."""
    raise NotImplementedError
