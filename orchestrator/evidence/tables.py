"""2x2 tables of two checkpoints on the same prompts, and McNemar's tests of them.

Source: Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data", BMC Medical
Research Methodology 13:91; Edwards 1948 for the correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special, stats

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
    """Tables as far from even as the one seen count half; near its level, the one to use."""
    corrected: float
    """Chi-square with Edwards' correction for continuity."""
    statistic: float
    """That chi-square, one degree of freedom."""


def table(pair: Pair) -> Table:
    """Who solved which. ValueError unless each prompt has one answer a side that is 0 or 1."""
    if not pair.paired_answers:
        raise ValueError(
            f"a 2x2 table needs one answer a prompt that scores 0 or 1; {pair.candidate!r} and "
            f"{pair.baseline!r} have several samples, several training seeds or other scores"
        )
    candidate_P = pair.candidate_SP[0] == 1
    baseline_P = pair.baseline_SP[0] == 1
    return Table(
        both=int((candidate_P & baseline_P).sum()),
        candidate_only=int((candidate_P & ~baseline_P).sum()),
        baseline_only=int((~candidate_P & baseline_P).sum()),
        neither=int((~candidate_P & ~baseline_P).sum()),
    )


def mcnemar(found: Table) -> McNemar:
    """McNemar's tests of a table; 1 for all of them where no prompt tells the two apart.

    The correction takes 1 off the difference of the two counts, and never brings it below 0.
    """
    fewer = min(found.candidate_only, found.baseline_only)
    count = found.discordant
    if count == 0:
        return McNemar(1.0, 1.0, 1.0, 0.0)
    below = 2 * float(special.bdtr(fewer, count, 0.5))
    seen = float(stats.binom.pmf(fewer, count, 0.5))
    statistic = max(0, abs(found.candidate_only - found.baseline_only) - 1) ** 2 / count
    return McNemar(
        exact=min(1.0, below),
        mid_p=below - seen if 2 * fewer < count else 1 - seen / 2,
        corrected=float(stats.chi2.sf(statistic, 1)),
        statistic=statistic,
    )
