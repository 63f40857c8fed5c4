"""From votes to preferences: of each pair that was voted on, which answer is better, if that can be said."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIE, BOTH_BAD, SPLIT, GOLD = "tie", "both bad", "no majority", "test item"
"""Why a pair is no preference."""


@dataclass(frozen=True)
class Preference:
    """One pair of answers and what was said of it."""

    item: int
    index: int
    chosen: int
    rejected: int
    votes: dict[str, int]
    """Plain counts: chosen, rejected, tie, both_bad."""
    judges: tuple[str, ...]
    agreement: float
    """Share of the votes' weight that is for the chosen answer."""


def preferences(
    votes: Iterable[Any], weights: Mapping[str, float]
) -> tuple[list[Preference], Counter[str]]:
    """The pairs with a better answer, in the order of their first votes, and why others have none.

    `votes` are Vote rows. The answer with the most weight is better where it has more than each other
    answer, ties and both bad included; a judge that `weights` does not name counts 1.
    """
    pairs: dict[tuple[int, int, int, int], list[Any]] = defaultdict(list)
    for vote in votes:
        first, second = sorted((vote.left_id, vote.right_id))
        pairs[vote.item_id, vote.index, first, second].append(vote)
    found, left_out = [], Counter[str]()
    for (item, index, *ends), rows in pairs.items():
        if any(row.gold for row in rows):
            left_out[GOLD] += 1
            continue
        weight: dict[Any, float] = defaultdict(float)
        for row in rows:
            weight[_choice(row)] += weights.get(row.voter.get_username(), 1.0)
        winner, why = _winner(weight)
        if why:
            left_out[why] += 1
            continue
        other = ends[0] if winner == ends[1] else ends[1]
        said = Counter(_choice(row) for row in rows)
        counts = {"chosen": said[winner], "rejected": said[other]}
        found.append(
            Preference(
                item=item,
                index=index,
                chosen=winner,
                rejected=other,
                votes={**counts, "tie": said[TIE], "both_bad": said[BOTH_BAD]},
                judges=tuple(sorted({row.voter.get_username() for row in rows})),
                agreement=weight[winner] / sum(weight.values()),
            )
        )
    return found, left_out


def _choice(vote: Any) -> Any:
    """The arm that was preferred, or that it was a tie or both bad."""
    ends = {Outcome.LEFT: vote.left_id, Outcome.RIGHT: vote.right_id, Outcome.TIE: TIE}
    return ends.get(vote.outcome, BOTH_BAD)


def _winner(weight: Mapping[Any, float]) -> tuple[Any, str]:
    """The arm that leads, or why none does."""
    most = max(weight.values())
    leaders = [choice for choice, size in weight.items() if size == most]
    if most <= 0 or len(leaders) > 1:
        return None, SPLIT
    leader = leaders[0]
    return (None, leader) if leader in (TIE, BOTH_BAD) else (leader, "")
