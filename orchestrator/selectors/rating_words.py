"""What ratings permit to be said, and what they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.evidence import Ratings

LEAST_VOTES, LEAST_PROMPTS = 20, 10
"""With fewer, a bootstrap over prompts knows too little of how prompts differ: no order is claimed."""
FEW_VOTES = 100


def standing(found: Ratings) -> str:
    """Who is ahead, where anybody surely is."""
    counted = f"{_count(found.votes, 'vote')} on {_count(found.prompts, 'prompt')}"
    if found.votes < LEAST_VOTES or found.prompts < LEAST_PROMPTS:
        return (
            f"Not enough votes to say which is better: {counted}; an order is told from {LEAST_VOTES} "
            f"votes on {LEAST_PROMPTS} prompts on."
        )
    first = [one.arm for one in found.ratings if one.rank == 1]
    behind = [one.arm for one in found.ratings if one.rank > 1]
    if not behind:
        return f"No model is surely ahead: {counted} leave their order open."
    if len(first) == 1:
        return f"{first[0]} is ahead of {_listed(behind)} ({counted}, 95 % intervals)."
    return (
        f"{_listed(first)} cannot be told apart; {_listed(behind)} "
        f"{'is' if len(behind) == 1 else 'are'} surely behind ({counted})."
    )


def cautions(found: Ratings, *, people: bool) -> list[str]:
    """What limits the ratings."""
    words = []
    if LEAST_VOTES <= found.votes < FEW_VOTES:
        words.append("Few votes: the ratings still move a lot with each new one.")
    if people and found.judges == 1:
        words.append("All votes are one person's: whether others agree is not known.")
    if not people and found.judges == 1:
        words.append("One judge model: its taste is not people's.")
    if found.tie_share > 0.5:
        words.append(f"{100 * found.tie_share:.0f} % of the votes are ties or both bad.")
    if one_way := [
        one.arm for one in found.ratings if one.wins + one.losses and not one.wins * one.losses
    ]:
        words.append(
            f"{_listed(one_way)}: won or lost every vote that decided, so how large the distance is cannot "
            "be told."
        )
    if found.left_advantage is None:
        words.append("No pair was seen both ways round: the advantage of a side is not known.")
    return words


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
