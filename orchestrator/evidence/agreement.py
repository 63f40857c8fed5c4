"""How far judges agree: with each other, with gold items, and with themselves when sides are swapped.

Sources: Cohen 1960; Fleiss 1971; Wilson 1927 for the intervals of shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from orchestrator.evidence.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from orchestrator.evidence.votes import Vote

BORROWED = 5
"""Gold items of the mean judge that every judge is lent, so that two lucky answers make no expert."""


@dataclass(frozen=True)
class Agreement:
    """One judge."""

    judge: str
    votes: int
    gold: int
    """Gold items that the judge was shown."""
    gold_right: float | None
    """Share of these answered as they should be; None without any."""
    gold_interval: Interval | None
    """Wilson's."""
    kappas: dict[str, float | None]
    """Cohen's kappa with each other judge on items that both judged; None where it is undefined."""
    shared: dict[str, int]
    """Items that both judged."""
    left_share: float | None
    """Share of "left" among this judge's votes for a side; None without any."""


@dataclass(frozen=True)
class PositionBias:
    """Whether the side counts."""

    decided: int
    """Votes for a side."""
    left_share: float | None
    interval: Interval | None
    """Wilson's."""
    p: float
    """Exact binomial test of one half; fair only where sides were drawn by chance."""
    swapped: int
    """Items that one judge saw both ways round."""
    consistent: float | None
    """Share of these where the same arm (or a tie) came out both times; None without any."""


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa of two judges' labels of the same items, in the same order; None where both use a single
    same label.

    ValueError for unequal lengths or no items.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"labels: give two of each item; there are {len(one)} and {len(other)}")
    seen = float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
    ones, others = Counter(one), Counter(other)
    chance = sum(ones[label] * others[label] for label in ones) / len(one) ** 2
    return None if chance == 1 else (seen - chance) / (1 - chance)


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa of counts (items, labels). Where items have different numbers of judges, each item counts
    once in the agreement and each vote once in the chance of it.

    None where all votes have the same label. ValueError for an item with fewer than two votes, or no items.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not table.size or (table.sum(axis=1) < 2).any():
        raise ValueError("counts: give items x labels, with two votes or more on each item")
    votes = table.sum(axis=1)
    agreeing = ((table**2).sum(axis=1) - votes) / (votes * (votes - 1))
    shares = table.sum(axis=0) / table.sum()
    chance = float((shares**2).sum())
    if np.isclose(chance, 1.0, atol=1e-12):
        return None
    return (float(agreeing.mean()) - chance) / (1 - chance)


def agreement(votes: Sequence[Vote]) -> tuple[tuple[Agreement, ...], float | None]:
    """Every judge by name, and Fleiss' kappa over all items that at least two judges judged (None without any).

    Sides are taken out first: what counts is the arm. Of a judge's several votes on an item the first counts.
    """
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for vote in votes:
        labels[vote.judge].setdefault(vote.about, vote.label)
    judges = sorted(labels)
    found = []
    for judge in judges:
        own = [vote for vote in votes if vote.judge == judge]
        golden = [vote for vote in own if vote.gold is not None]
        right = sum(vote.outcome == vote.gold for vote in golden)
        kappas, shared = {}, {}
        for other in judges:
            both = [item for item in labels[judge] if item in labels[other]]
            if other == judge or not both:
                continue
            shared[other] = len(both)
            kappas[other] = cohen_kappa(
                *([labels[who][item] for item in both] for who in (judge, other))
            )
        left, decided = _sides(own)
        found.append(
            Agreement(
                judge=judge,
                votes=len(own),
                gold=len(golden),
                gold_right=right / len(golden) if golden else None,
                gold_interval=_wilson(right, len(golden)),
                kappas=kappas,
                shared=shared,
                left_share=left / decided if decided else None,
            )
        )
    return tuple(found), _overall(labels)


def position_bias(votes: Sequence[Vote], *, level: float = 0.95) -> PositionBias:
    """Over all votes but gold ones."""
    votes = [vote for vote in votes if vote.gold is None]
    left, decided = _sides(votes)
    seen: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for vote in votes:
        seen[vote.judge, vote.about].setdefault(vote.left, vote.label)
    swapped = [list(ways.values()) for ways in seen.values() if len(ways) == 2]
    same = sum(first == second for first, second in swapped)
    return PositionBias(
        decided=decided,
        left_share=left / decided if decided else None,
        interval=_wilson(left, decided, level),
        p=float(stats.binomtest(left, decided, 0.5).pvalue) if decided else 1.0,
        swapped=len(swapped),
        consistent=same / len(swapped) if swapped else None,
    )


def judge_weights(votes: Sequence[Vote]) -> dict[str, float]:
    """A weight from 0 to 1 a judge, from gold items alone: how much more often than a guess the judge is
    right, where a judge that is always right has 1.

    A guess is a vote drawn from all votes on gold items. Judges with few gold items are drawn towards the mean
    judge; 1 for all where there are no gold items, or where they all have the same answer and every judge
    gives it.
    """
    judges = sorted({vote.judge for vote in votes})
    golden = [vote for vote in votes if vote.gold is not None]
    if not golden:
        return dict.fromkeys(judges, 1.0)
    given = Counter(vote.outcome for vote in golden)
    wanted = Counter(vote.gold for vote in golden)
    guess = sum(given[outcome] * wanted[outcome] for outcome in given) / len(golden) ** 2
    if guess == 1:
        return dict.fromkeys(judges, 1.0)
    mean = sum(vote.outcome == vote.gold for vote in golden) / len(golden)
    weights = {}
    for judge in judges:
        own = [vote.outcome == vote.gold for vote in golden if vote.judge == judge]
        right = (sum(own) + BORROWED * mean) / (len(own) + BORROWED)
        weights[judge] = min(1.0, max(0.0, (right - guess) / (1 - guess)))
    return weights


def _sides(votes: Sequence[Vote]) -> tuple[int, int]:
    """Votes for the left, and votes for a side."""
    outcomes = Counter(vote.outcome for vote in votes)
    return outcomes["left"], outcomes["left"] + outcomes["right"]


def _wilson(hits: int, count: int, level: float = 0.95) -> Interval | None:
    if not count:
        return None
    found = stats.binomtest(hits, count).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(found.low), float(found.high), level, "Wilson")


def _overall(labels: dict[str, dict[str, str]]) -> float | None:
    """Fleiss' kappa over items with at least two judges."""
    items: dict[str, list[str]] = defaultdict(list)
    for own in labels.values():
        for item, label in own.items():
            items[item].append(label)
    shared = [given for given in items.values() if len(given) > 1]
    if not shared:
        return None
    names = sorted({label for given in shared for label in given})
    return fleiss_kappa([[given.count(name) for name in names] for given in shared])
