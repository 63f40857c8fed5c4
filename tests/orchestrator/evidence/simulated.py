"""Comparisons whose truth is known, thousands side by side; the quick tests and the bench measure the same way.

Legend: P prompts, C comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from orchestrator.evidence import (
    Arm,
    Arms,
    Style,
    Table,
    Vote,
    finding,
    length_controlled,
    mcnemar,
    pass_at_k,
    ratings,
)
from orchestrator.evidence.betting import bets, betting_p, log_wealth
from orchestrator.evidence.davidson import davidson_fit
from orchestrator.evidence.intervals import bootstrap_t, mean_interval
from orchestrator.evidence.ratings import MEAN, POINTS
from orchestrator.evidence.seeds import crossed
from orchestrator.evidence.sign_flips import drawn_ps

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """Prompts are solved with a chance drawn from a beta distribution; the candidate turns a part of failures
    into successes."""

    name: str
    samples: int = 1
    difficulty: tuple[float, float] = (1.0, 1.0)
    gain: float = 0.0
    """Part of the baseline's chance of failing that the candidate solves."""
    alike: float = 0.0
    """Share of prompts where both give the same answers, as neighbouring checkpoints do."""

    @property
    def truth(self) -> float:
        """The candidate's mean minus the baseline's, over all prompts there could be."""
        a, b = self.difficulty
        return (1 - self.alike) * self.gain * b / (a + b)

    def scores(
        self, prompts: int, comparisons: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Means over samples (P, C) of candidate and baseline."""
        base_PC = rng.beta(*self.difficulty, (prompts, comparisons))
        better_PC = base_PC + self.gain * (1 - base_PC)
        baseline_PC = rng.binomial(self.samples, base_PC) / self.samples
        candidate_PC = rng.binomial(self.samples, better_PC) / self.samples
        alike_PC = rng.random((prompts, comparisons)) < self.alike
        return np.where(alike_PC, baseline_PC, candidate_PC), baseline_PC


SCENARIOS = (
    Scenario("one answer a prompt"),
    Scenario("one answer, 3 in 5 prompts alike", alike=0.6),
    Scenario("one answer, hard prompts", difficulty=(0.5, 2.0)),
    Scenario("4 samples a prompt", samples=4),
    Scenario("16 samples a prompt, easy or hard", samples=16, difficulty=(0.3, 0.3)),
)


def with_gain(scenario: Scenario, gain: float = 0.2) -> Scenario:
    """The same with a candidate that is better."""
    return replace(scenario, gain=gain)


@cache
def _tests(candidate_only: int, baseline_only: int) -> tuple[float, float, float]:
    found = mcnemar(Table(0, candidate_only, baseline_only, 0))
    return found.mid_p, found.exact, found.corrected


def rejections(scenario: Scenario, prompts: int, comparisons: int, seed: int) -> dict[str, float]:
    """Share of comparisons that each test calls different, at 5 %."""
    rng = np.random.default_rng(seed)
    candidate_PC, baseline_PC = scenario.scores(prompts, comparisons, rng)
    difference_PC = candidate_PC - baseline_PC
    p_C, mid_p_C = drawn_ps(difference_PC, draws=1_999, seed=seed)
    found = {"permutation": p_C, "permutation, mid-p": mid_p_C}
    if scenario.samples == 1:
        gains, losses = ((difference_PC == sign).sum(axis=0).tolist() for sign in (1, -1))
        ps = np.array([_tests(*pair) for pair in zip(gains, losses, strict=True)])
        found |= dict(
            zip(("McNemar, mid-p", "McNemar, exact", "McNemar, corrected"), ps.T, strict=True)
        )
    return {name: float((ps <= 0.05).mean()) for name, ps in found.items()}


def coverage(scenario: Scenario, prompts: int, comparisons: int, seed: int) -> float:
    """Share of 95 % intervals by bootstrap over prompts that hold the truth."""
    rng = np.random.default_rng(seed)
    candidate_PC, baseline_PC = scenario.scores(prompts, comparisons, rng)
    low_C, high_C = bootstrap_t(candidate_PC - baseline_PC, level=0.95, resamples=999, seed=seed)
    return float(((low_C <= scenario.truth) & (scenario.truth <= high_C)).mean())


CLOSE = (
    Scenario("9 in 10 prompts alike", alike=0.9),
    Scenario("9 in 10 prompts alike, better", alike=0.9, gain=0.5),
)
"""Checkpoints of which few prompts tell: about one in 30 differs."""


def close_coverage(scenario: Scenario, prompts: int, comparisons: int, seed: int) -> float:
    """Share of intervals that hold the truth, bootstrap or betting as it comes."""
    rng = np.random.default_rng(seed)
    candidate_PC, baseline_PC = scenario.scores(prompts, comparisons, rng)
    held = 0
    for at, difference_P in enumerate((candidate_PC - baseline_PC).T):
        found = mean_interval(difference_P, bounds=(-1.0, 1.0), level=0.95, resamples=400, seed=at)
        held += found.holds(scenario.truth)
    return held / comparisons


@dataclass(frozen=True)
class Watched:
    """Comparisons that somebody looks at after every prompt."""

    found: float
    """Share where the always-valid p ever fell to 5 %."""
    covered_always: float
    """Share of confidence sequences that held the truth at every look."""
    covered_at_stop: float
    """Share that held it where the watcher stopped: when 0 left the interval, or at the end."""
    found_by_fixed: float
    """Share where a t interval, made for one look, ever excluded 0 from the 20th prompt on: what an honest
    method is up against."""
    stopped: float
    """Median number of prompts at the stop."""


def watched(scenario: Scenario, prompts: int, comparisons: int, seed: int) -> Watched:
    """The betting sequence at 5 %, looked at after every prompt."""
    rng = np.random.default_rng(seed)
    candidate_PC, baseline_PC = scenario.scores(prompts, comparisons, rng)
    difference_PC = candidate_PC - baseline_PC
    unit_PC = (difference_PC + 1) / 2
    found_PC = betting_p(unit_PC, 0.5, alpha=0.05) <= 0.05
    truth_C = np.full(comparisons, (scenario.truth + 1) / 2)
    wealth = log_wealth(unit_PC, bets(unit_PC, alpha=0.05), truth_C)
    missed_PC = np.maximum.accumulate(np.maximum(*wealth), axis=0) >= np.log(2 / 0.05)
    stop_C = np.where(found_PC[-1], found_PC.argmax(axis=0), prompts - 1)
    count_P1 = np.arange(1, prompts + 1)[:, None]
    mean_PC = np.cumsum(difference_PC, axis=0) / count_P1
    square_PC = np.cumsum(difference_PC**2, axis=0) / count_P1 - mean_PC**2
    z_PC = np.abs(mean_PC) / np.sqrt(np.maximum(square_PC, 1e-12) / count_P1)
    return Watched(
        found=float(found_PC[-1].mean()),
        covered_always=float(1 - missed_PC[-1].mean()),
        covered_at_stop=float(1 - missed_PC[stop_C, np.arange(comparisons)].mean()),
        found_by_fixed=float((z_PC[19:] > 1.96).any(axis=0).mean()),
        stopped=float(np.median(stop_C) + 1),
    )


def seeds_cover(seeds: int, spread: float, prompts: int, comparisons: int, seed: int) -> float:
    """Share of intervals over seeds and prompts that hold the truth, of two recipes that are the same;
    `spread` is the standard deviation that training seeds bring to the mean."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(comparisons):
        hard_P = rng.normal(0, 0.3, prompts)
        arms = [
            hard_P
            + rng.normal(0, 0.1, prompts)
            + rng.normal(0, spread, (seeds, 1))
            + rng.normal(0, 0.2, (seeds, prompts))
            for _ in range(2)
        ]
        low, high = crossed(*arms).bounds(0.95)
        held += low <= 0 <= high
    return held / comparisons


def words(scenario: Scenario, prompts: int, comparisons: int, seed: int) -> dict[str, float]:
    """Share of each verdict, the whole way from scores."""
    rng = np.random.default_rng(seed)
    candidate_PC, baseline_PC = scenario.scores(prompts, comparisons, rng)
    names = tuple(map(str, range(prompts)))
    said: list[str] = []
    for at in range(comparisons):
        arms = Arms(names, (Arm("a", candidate_PC[:, at]), Arm("b", baseline_PC[:, at])))
        said.append(finding(arms.pair("a", "b"), resamples=400, seed=at).verdict.word)
    return {word: said.count(word) / comparisons for word in sorted(set(said))}


def passes_cover(k: int, prompts: int, comparisons: int, seed: int) -> float:
    """Share of intervals of pass@k, 8 samples a prompt, that hold the truth."""
    rng = np.random.default_rng(seed)
    chance_PC = rng.beta(0.6, 1.2, (prompts, comparisons))
    passed_PC = pass_at_k(rng.binomial(8, chance_PC), 8, k)
    # E[1 - (1 - p)^k] of a beta: 1 - prod (b + i) / (a + b + i).
    truth = 1 - np.prod([(1.2 + i) / (1.8 + i) for i in range(k)])
    low_C, high_C = bootstrap_t(passed_PC, level=0.95, resamples=500, seed=seed)
    return float(((low_C <= truth) & (truth <= high_C)).mean())


def judged(
    count: int, *, skill: float, taste: float, longer: float = 100.0, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Wins of a candidate whose answers are longer, by a judge with a taste for length; lengths of both."""
    rng = np.random.default_rng(seed)
    baseline_N = rng.normal(800, 100, count).clip(50)
    candidate_N = (baseline_N + rng.normal(longer, 200, count)).clip(20)
    chance_N = expit(skill + taste * np.tanh((candidate_N - baseline_N) / 200))
    return rng.binomial(1, chance_N).astype(float), candidate_N, baseline_N


def length_cover(outcomes: int, comparisons: int, seed: int) -> float:
    """Share of intervals of the length-controlled win rate that hold the truth."""
    held = 0
    for at in range(comparisons):
        wins = judged(outcomes, skill=0.4, taste=1.0, seed=seed + at)
        found = length_controlled(*wins, resamples=200, seed=at)
        held += found.length_controlled_interval.holds(float(expit(0.4)))
    return held / comparisons


STRENGTHS = {"a": -0.6, "b": 0.0, "c": 0.2, "d": 0.4}
"""Logits, mean 0."""


def voted(
    rng: np.random.Generator,
    *,
    prompts: int,
    votes: int,
    left: float = 0.3,
    tie: float = -0.7,
    length: float = 0.0,
    by_prompt: float = 0.0,
) -> list[Vote]:
    """Votes on random pairs and sides by Davidson's model; `left` is the advantage of that side and `length`
    that of a typical difference in length, both in logits. `by_prompt`: standard deviation of what a prompt
    adds to each arm's strength."""
    arms = sorted(STRENGTHS)
    extra = rng.normal(0, by_prompt, (prompts, len(arms)))
    found = []
    for number in range(votes):
        prompt = number % prompts
        one, other = rng.choice(len(arms), 2, replace=False).tolist()
        lengths = rng.lognormal(5, 0.7, 2).round().astype(int).tolist()
        contrast = (lengths[0] - lengths[1]) / (sum(lengths) + 1)
        t = STRENGTHS[arms[one]] - STRENGTHS[arms[other]] + left + length * contrast / 0.41
        t += extra[prompt, one] - extra[prompt, other]
        chances = np.exp([t / 2, -t / 2, tie, tie - 1])
        outcome = ("left", "right", "tie", "both bad")[rng.choice(4, p=chances / chances.sum())]
        found.append(
            Vote(
                f"judge {number % 3}",
                f"prompt {prompt}",
                arms[one],
                arms[other],
                outcome,
                Style(lengths[0]),
                Style(lengths[1]),
            )
        )
    return found


def true_ratings(*, left: float, tie: float, by_prompt: float) -> dict[str, float]:
    """What endless votes over endless prompts would rate: prompts that favour one or the other flatten the odds of
    the whole."""
    arms = sorted(STRENGTHS)
    swing = np.random.default_rng(0).normal(0, by_prompt * np.sqrt(2), 200_000)
    rows, shares = [], []
    for one, other in permutations(range(len(arms)), 2):
        t = STRENGTHS[arms[one]] - STRENGTHS[arms[other]] + left + swing
        chances = np.exp(np.stack([t / 2, -t / 2, np.full_like(t, tie), np.full_like(t, tie - 1)]))
        chances = (chances / chances.sum(axis=0)).mean(axis=1)
        rows.append([(at == one) - (at == other) for at in range(len(arms))] + [1])
        shares.append([chances[0], chances[1], chances[2] + chances[3]])
    fitted, _ = davidson_fit(np.array(rows, float), np.array(shares), np.full((1, len(rows)), 1e6))
    strengths = fitted[0, : len(arms)] - fitted[0, : len(arms)].mean()
    return dict(zip(arms, (MEAN + POINTS * strengths).tolist(), strict=True))


def ratings_cover(prompts: int, votes: int, comparisons: int, seed: int) -> float:
    """Share of rating intervals that hold the truth, four votes a prompt that favours some arm or other."""
    truth = true_ratings(left=0.3, tie=-0.7, by_prompt=0.7)
    held = []
    for at in range(comparisons):
        cast = voted(np.random.default_rng(seed + at), prompts=prompts, votes=votes, by_prompt=0.7)
        held += [
            each.interval.holds(truth[each.arm])
            for each in ratings(cast, resamples=200, seed=at).ratings
        ]
    return float(np.mean(held))
