"""Findings: everything about one pair or about several at once, with p-values corrected over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from orchestrator.evidence.corrections import correct
from orchestrator.evidence.differences import Difference, difference
from orchestrator.evidence.effects import Effect, effect
from orchestrator.evidence.power import Power, power
from orchestrator.evidence.sign_flips import SignFlip, sign_flip
from orchestrator.evidence.tables import McNemar, Table, mcnemar, table
from orchestrator.evidence.verdicts import Evidence, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.evidence.arms import Arms, LeftOut, Pair
    from orchestrator.evidence.corrections import Correction


@dataclass(frozen=True)
class Finding:
    """One pair: candidate against baseline."""

    candidate: str
    baseline: str
    difference: Difference
    effect: Effect
    power: Power
    table: Table | None
    """None unless each prompt has one answer a side that is right or wrong."""
    mcnemar: McNemar | None
    permutation: SignFlip
    test: str
    """The test that `p` is of: "McNemar, mid-p", "paired permutation, mid-p" or "t over training
    seeds"."""
    p: float
    p_corrected: float
    correction: str
    comparisons: int
    left_out: LeftOut
    verdict: Verdict


def findings(
    arms: Arms,
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    correction: Correction = "holm",
    margin: float | None = None,
    alpha: float = 0.05,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """Every arm against `baseline`, or the (candidate, baseline) `pairs`, or all pairs (the later arm as
    candidate); one correction over all of them.

    ValueError for fewer than two arms or for both `baseline` and `pairs`.
    """
    names = [arm.name for arm in arms.arms]
    if len(names) < 2:
        raise ValueError(f"arms: {len(names)} cannot be compared; give two or more")
    if baseline is not None and pairs is not None:
        raise ValueError("pairs: give either these or a baseline, not both")
    if baseline is not None:
        wanted = [(name, arms[baseline].name) for name in names if name != baseline]
    elif pairs is not None:
        wanted = list(pairs)
    else:
        wanted = [(later, earlier) for earlier, later in combinations(names, 2)]
    plan = Plan(correction, len(wanted), margin, alpha, resamples, seed)
    return _found([arms.pair(*two) for two in wanted], plan)


def pair_findings(
    pairs: Sequence[Pair],
    *,
    correction: Correction = "holm",
    margin: float | None = None,
    alpha: float = 0.05,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """The same of pairs that have scores of their own each, such as what a judge said of two arms."""
    return _found(list(pairs), Plan(correction, len(pairs), margin, alpha, resamples, seed))


def finding(
    pair: Pair,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    resamples: int = 10_000,
    seed: int = 0,
) -> Finding:
    """A single comparison: nothing to correct."""
    return _found([pair], Plan("none", 1, margin, alpha, resamples, seed))[0]


@dataclass(frozen=True)
class Plan:
    """How pairs are compared; said before anything is looked at."""

    correction: Correction
    comparisons: int
    margin: float | None
    alpha: float
    resamples: int
    """Of the bootstrap, and sign patterns of the permutation test."""
    seed: int

    def __post_init__(self) -> None:
        """ValueError for an alpha outside 0..1."""
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: {self.alpha} is not between 0 and 1; give 0.05 for 5 %")


@dataclass(frozen=True)
class Tested:
    """A pair, and what its tests say before anything is corrected."""

    pair: Pair
    difference: Difference
    table: Table | None
    mcnemar: McNemar | None
    permutation: SignFlip
    test: str
    p: float


def _found(pairs: Sequence[Pair], plan: Plan) -> tuple[Finding, ...]:
    tested = [_tested(pair, plan) for pair in pairs]
    corrected = correct([found.p for found in tested], plan.correction)
    return tuple(_finding(found, p, plan) for found, p in zip(tested, corrected, strict=True))


def _tested(pair: Pair, plan: Plan) -> Tested:
    """The test that counts: over seeds where there are several; McNemar's where a 2x2 table says all; else by
    permutation."""
    found = difference(pair, level=1 - plan.alpha, resamples=plan.resamples, seed=plan.seed)
    flips = sign_flip(pair, draws=plan.resamples - 1, seed=plan.seed)
    counted = table(pair) if pair.paired_answers else None
    tests = mcnemar(counted) if counted else None
    if found.p_seeds is not None:
        test, p = "t over training seeds", found.p_seeds
    elif tests:
        test, p = "McNemar, mid-p", tests.mid_p
    else:
        test, p = "paired permutation, mid-p", flips.mid_p
    return Tested(pair, found, counted, tests, flips, test, p)


def _finding(found: Tested, p_corrected: float, plan: Plan) -> Finding:
    pair = found.pair
    evidence = Evidence(
        candidate=pair.candidate,
        baseline=pair.baseline,
        difference=found.difference,
        effect=effect(pair, level=1 - plan.alpha),
        power=power(
            pair,
            margin=plan.margin,
            alpha=plan.alpha,
            comparisons=1 if plan.correction == "none" else plan.comparisons,
        ),
        p=found.p,
        p_corrected=p_corrected,
        test=found.test,
        correction=plan.correction,
        comparisons=plan.comparisons,
        left_out=pair.left_out,
        alpha=plan.alpha,
    )
    return Finding(
        candidate=pair.candidate,
        baseline=pair.baseline,
        difference=found.difference,
        effect=evidence.effect,
        power=evidence.power,
        table=found.table,
        mcnemar=found.mcnemar,
        permutation=found.permutation,
        test=found.test,
        p=found.p,
        p_corrected=p_corrected,
        correction=plan.correction,
        comparisons=plan.comparisons,
        left_out=pair.left_out,
        verdict=verdict(evidence),
    )
