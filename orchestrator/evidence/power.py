"""How many prompts a difference needs to be found, and which difference the prompts at hand would find.

Power of the two-sided paired t test, from the noncentral t distribution (Cohen 1988, chapter 2): the permutation
test has it too, once a few dozen prompts differ. Never from the observed difference alone: that would only say
p again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special, stats

from orchestrator.evidence.intervals import FEWEST
from orchestrator.evidence.seeds import Crossed, crossed, satterthwaite

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair

MOST = 10**9
"""Prompts beyond which nobody is told a number."""
MARGIN = 0.05
SMALL = 0.2
"""Cohen's small effect, in standard deviations."""


@dataclass(frozen=True)
class Power:
    """What the prompts at hand can tell, by the spread that they show."""

    margin: float
    """The smallest difference that matters, in the unit of the scores."""
    at_margin: float
    """Chance that a true difference of `margin` would have been found with the prompts at hand."""
    detectable: float
    """The smallest true difference that would be found with a chance of `target`."""
    needed: int | None
    """Prompts in all that find `margin` with a chance of `target`. None where no number of prompts would do,
    because training seeds differ too much."""
    more: int | None
    """Of these, how many are still missing; 0 where there are enough."""
    needed_for_observed: int | None
    """Prompts in all that would find a true difference as large as the observed one; None where nothing
    differs or no number would do. A guess: the observed difference is itself uncertain."""
    target: float
    alpha: float
    """After division by the number of comparisons."""


def chance(*, difference: float, error: float, freedom: float, alpha: float = 0.05) -> float:
    """Chance that a true difference is found by a two-sided t test with that standard error."""
    critical = float(special.stdtrit(freedom, 1 - alpha / 2))
    off = abs(difference) / error
    # scipy's noncentral t loses its digits far out, where it is the normal distribution to six of them.
    if freedom > 5_000 or off > 30:
        return float(stats.norm.sf(critical - off) + stats.norm.cdf(-critical - off))
    found = 1 - float(special.nctdtr(freedom, off, critical))
    wrong_side = float(special.nctdtr(freedom, off, -critical))
    # NaN where the chance of finding it the wrong way round is too small to be told.
    return found if np.isnan(wrong_side) else found + wrong_side


def prompts_needed(
    *, sd: float, difference: float, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Prompts that a two-sided paired t test needs; None above a thousand million.

    ValueError for a difference of 0, a negative sd, or a power that alpha alone exceeds.
    """
    return _prompts(sd=sd, seeds=(), difference=difference, power=power, alpha=alpha)


def minimal_difference(
    *, sd: float, prompts: int, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest difference that so many prompts, two at least, find with that power."""
    _check(power=power, alpha=alpha)
    if prompts < 2:
        raise ValueError(f"prompts: {prompts} tell nothing; give 2 or more")
    if sd == 0:
        return 0.0
    return _detectable(error=sd / np.sqrt(prompts), freedom=prompts - 1, power=power, alpha=alpha)


def default_margin(pair: Pair) -> float:
    """0.05 where all scores lie in 0..1; otherwise 0.2 standard deviations of the prompts' differences,
    Cohen's small effect."""
    if pair.bounds == (0.0, 1.0):
        return MARGIN
    return SMALL * spread(pair)


def spread(pair: Pair) -> float:
    """Standard deviation of the prompts' differences.

    Where fewer than 5 prompts differ it is taken from the most prompts that may well differ in truth (95 %
    upper bound of Clopper and Pearson) and the widest difference there can be: a spread of 0 would promise
    certainty.
    """
    difference_P = pair.difference_P
    differing = int((difference_P != 0).sum())
    sd = float(difference_P.std(ddof=1)) if difference_P.size > 1 else 0.0
    if differing >= min(FEWEST, difference_P.size):
        return sd
    most = float(stats.beta.ppf(0.95, differing + 1, difference_P.size - differing))
    least, greatest = pair.bounds
    return max(sd, (greatest - least) * float(np.sqrt(most)))


def power(
    pair: Pair,
    *,
    margin: float | None = None,
    target: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> Power:
    """Power of the pair at hand. `margin` None: see `default_margin`. With several comparisons alpha is
    divided by their number (Bonferroni, so never too hopeful). ValueError for a margin that is not above 0."""
    margin = default_margin(pair) if margin is None else margin
    if not margin > 0:
        raise ValueError(
            f"margin: {margin} is no difference; give the smallest one that matters, above 0"
        )
    if comparisons < 1:
        raise ValueError(f"comparisons: {comparisons}; this one counts, so give 1 or more")
    alpha = alpha / comparisons
    _check(power=target, alpha=alpha)
    difference_P = pair.difference_P
    prompts = difference_P.size
    if prompts < 2:
        raise ValueError("a single prompt says nothing of others; compare on two or more")
    if min(pair.seeds) > 1:
        found = crossed(pair.candidate_SP, pair.baseline_SP)
        sd = float(np.sqrt(found.by_prompts * prompts))
    else:
        sd = spread(pair)
        found = Crossed(float(difference_P.mean()), (), sd**2 / prompts, prompts - 1)
    if found.error == 0:
        return Power(margin, 1.0, 0.0, prompts, 0, prompts, target, alpha)

    def enough(difference: float) -> int | None:
        return _prompts(
            sd=sd,
            seeds=found.seeds,
            difference=difference,
            power=target,
            alpha=alpha,
        )

    at_margin = chance(difference=margin, error=found.error, freedom=found.freedom, alpha=alpha)
    needed = enough(margin)
    if at_margin >= target:
        needed = min(needed or prompts, prompts)
    elif needed is not None:
        # Degrees of freedom of seeds and prompts together are rounded differently there.
        needed = max(needed, prompts + 1)
    return Power(
        margin=margin,
        at_margin=at_margin,
        detectable=_detectable(error=found.error, freedom=found.freedom, power=target, alpha=alpha),
        needed=needed,
        more=None if needed is None else max(0, needed - prompts),
        needed_for_observed=enough(found.difference) if found.difference else None,
        target=target,
        alpha=alpha,
    )


def _check(*, power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(
            f"power {power} and alpha {alpha}: give 0 < alpha < power < 1, such as 0.05 and 0.8"
        )


def _detectable(*, error: float, freedom: float, power: float, alpha: float) -> float:
    """The difference that is found with a chance of `power`; it is proportional to the error."""

    def lacks(difference: float) -> float:
        return chance(difference=difference, error=1.0, freedom=freedom, alpha=alpha) - power

    far = 1.0
    while lacks(far) < 0:
        far *= 2
    return float(optimize.brentq(lacks, 0.0, far)) * float(error)


def _prompts(
    *,
    sd: float,
    seeds: tuple[tuple[float, int], ...],
    difference: float,
    power: float,
    alpha: float,
) -> int | None:
    """Prompts that find `difference`, beside a variance by seeds that prompts leave as it is."""
    _check(power=power, alpha=alpha)
    if difference == 0 or sd < 0:
        raise ValueError(
            f"difference {difference} and sd {sd}: give a difference that is not 0 and an sd of 0 or more"
        )

    def found(prompts: int) -> bool:
        variance = sd**2 / prompts
        error = float(np.sqrt(variance + sum(part for part, _ in seeds)))
        if error == 0:
            return True
        freedom = satterthwaite((*seeds, (variance, prompts - 1)))
        return chance(difference=difference, error=error, freedom=freedom, alpha=alpha) >= power

    few, many = 2, 2
    while not found(many):
        few, many = many, many * 2
        if many > MOST:
            return None
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if found(middle) else (middle + 1, many)
    return many
