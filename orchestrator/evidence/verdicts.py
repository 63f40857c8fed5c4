"""The verdict: from evidence to one of four words, with a sentence that claims no more than the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.evidence.arms import LeftOut
    from orchestrator.evidence.differences import Difference
    from orchestrator.evidence.effects import Effect
    from orchestrator.evidence.intervals import Interval
    from orchestrator.evidence.power import Power

CORRECTIONS = {
    "holm": "Holm",
    "benjamini-hochberg": "Benjamini-Hochberg",
    "bonferroni": "Bonferroni",
}
FEWEST = 20
"""Prompts below which nothing is said to have been looked for: their spread may be small by chance."""
Word = Literal["better", "worse", "no difference found", "not enough data"]


@dataclass(frozen=True)
class Evidence:
    """All that a verdict is made from."""

    candidate: str
    baseline: str
    difference: Difference
    effect: Effect
    power: Power
    p: float
    """As tested."""
    p_corrected: float
    """Corrected over `comparisons`."""
    test: str
    """What made p: "McNemar, mid-p", "paired permutation, mid-p", "t over training seeds"."""
    correction: str
    comparisons: int
    left_out: LeftOut
    alpha: float = 0.05


@dataclass(frozen=True)
class Verdict:
    """What may be said."""

    word: Word
    sentence: str
    """Names n, difference, interval, p, effect and the prompts still needed."""
    caution: str
    """What limits it: a single training seed, items left out; empty where nothing does."""


def verdict(evidence: Evidence) -> Verdict:
    """One of four words.

    "better" or "worse": the corrected p is at most alpha and the interval leaves 0 on that side. "no difference
    found": neither, and the interval lies inside the margin or the prompts would have found the margin with
    the target power, with 20 prompts at least. Otherwise "not enough data".
    """
    word = _word(evidence)
    candidate, baseline = f"“{evidence.candidate}”", f"“{evidence.baseline}”"
    opening = {
        "better": f"{candidate} is better than {baseline}",
        "worse": f"{candidate} is worse than {baseline}",
        "no difference found": f"no difference found between {candidate} and {baseline}",
        "not enough data": f"not enough data to tell {candidate} from {baseline}",
    }[word]
    single = min(evidence.difference.seeds) == 1
    if single:
        opening = f"One training seed: {opening}"
    elif not opening.startswith("“"):
        opening = opening[0].upper() + opening[1:]
    sentence = f"{opening}: {_figures(evidence)}. {_reason(evidence, word)}"
    return Verdict(word, " ".join(sentence.split()), _caution(evidence, single))


def _word(evidence: Evidence) -> Word:
    interval, power = evidence.difference.interval, evidence.power
    if evidence.p_corrected <= evidence.alpha:
        if interval.low > 0:
            return "better"
        if interval.high < 0:
            return "worse"
    enough = interval.within(power.margin) or power.at_margin >= power.target
    if enough and evidence.difference.prompts >= FEWEST:
        return "no difference found"
    return "not enough data"


def _figures(evidence: Evidence) -> str:
    """Means, n, difference, interval, p, effect."""
    found = evidence.difference
    several = evidence.comparisons > 1 and evidence.correction != "none"
    over = (
        f", {CORRECTIONS[evidence.correction]} over {evidence.comparisons} comparisons"
        if several
        else ""
    )
    prompts = f"{found.prompts:,} prompts"
    if min(found.seeds) > 1:
        prompts += f" and {found.seeds[0]} against {found.seeds[1]} training seeds"
    return (
        f"{figure(found.candidate)} against {figure(found.baseline)} on {prompts}, "
        f"a difference of {signed(found.difference)} ({_interval(found.interval)}; "
        f"{p_text(evidence.p_corrected)}, {evidence.test}{over}; {_effect(evidence.effect)})"
    )


def _interval(interval: Interval) -> str:
    return f"{100 * interval.level:g} % interval {signed(interval.low)} to {signed(interval.high)}"


def _effect(effect: Effect) -> str:
    if effect.dz is None:
        return "no effect size, since prompts do not vary" if effect.size != "none" else "no effect"
    text = f"Cohen's d_z {signed(effect.dz, 2)}, {effect.size}"
    if effect.odds_ratio is not None:
        text += f"; odds ratio {figure(effect.odds_ratio, 2)} among prompts that one alone solved"
    return text


def _reason(evidence: Evidence, word: Word) -> str:
    """Why this word, and the prompts still needed."""
    interval, power = evidence.difference.interval, evidence.power
    margin = f"{power.margin:.3g}"
    parts = []
    if word in ("better", "worse"):
        return "Prompts still needed to tell the two apart: none."
    if word == "no difference found":
        if interval.within(power.margin):
            parts.append(f"The whole interval lies nearer to 0 than {margin}.")
        else:
            parts.append(
                f"A true difference of {margin} would have been found with a chance of "
                f"{100 * power.at_margin:.0f} %; a smaller one might be there."
            )
    if not interval.holds(0):
        parts.append(f"The interval leaves 0 out, but p is above {evidence.alpha:g}.")
    elif evidence.p_corrected <= evidence.alpha:
        parts.append(f"p is at most {evidence.alpha:g}, but the interval holds 0.")
    goal = f"to find a difference of {margin} with a chance of {100 * power.target:.0f} %"
    missing = FEWEST - evidence.difference.prompts
    if missing > 0 and not power.more:
        parts.append(
            f"Prompts still needed: {missing} more at least; the spread of so few may be small by chance."
        )
    elif power.needed is None:
        parts.append(
            f"No number of prompts would do {goal}: training seeds differ too much, so add seeds."
        )
    elif power.more:
        parts.append(
            f"Prompts still needed {goal}: about {power.more:,} more, {power.needed:,} in all."
        )
    else:
        parts.append(f"Prompts still needed {goal}: none.")
    return " ".join(parts)


def _caution(evidence: Evidence, single: bool) -> str:
    parts = []
    if single:
        where = [
            f"“{name}”"
            for name, seeds in zip(
                (evidence.candidate, evidence.baseline), evidence.difference.seeds, strict=True
            )
            if seeds == 1
        ]
        parts.append(
            f"One training seed of {' and '.join(where)}: this speaks of these checkpoints. "
            "Whether their recipes differ takes two or more seeds of each."
        )
    if evidence.left_out.sentence:
        parts.append(evidence.left_out.sentence)
        parts.append("If items fail more often where an arm is weak, the difference is off.")
    return " ".join(parts)


def figure(value: float, digits: int = 3) -> str:
    """A number for people: so many digits behind the point, fewer of large ones."""
    return (
        f"{value:.{digits}f}"
        if abs(value) < 10
        else f"{value:,.4g}"
        if abs(value) < 10_000
        else f"{value:,.0f}"
    )


def signed(value: float, digits: int = 3) -> str:
    """The same with its sign, and no sign of 0."""
    text = figure(abs(value), digits)
    if not any(digit in "123456789" for digit in text):
        return text
    return ("−" if value < 0 else "+") + text


def p_text(p: float) -> str:
    """p as people write it; rounded, never to the other side of 0.05."""
    if p < 0.001:
        return "p < 0.001"
    text = f"{p:.3f}"
    if (float(text) <= 0.05) != (p <= 0.05):
        text = f"{p:.5f}"
    return f"p = {text}"
