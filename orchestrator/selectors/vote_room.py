"""How much there is to vote on, in words: ready, nothing yet, nothing left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models import Vote

if TYPE_CHECKING:
    from orchestrator.models import Comparison, User
    from orchestrator.selectors.ballot_pool import Pool

FEW = 20
"""From here down the exact number left would tell which of the last votes were test items."""


@dataclass(frozen=True)
class Room:
    """What one voter finds."""

    state: str
    """open, one-arm, not-ready, identical or done."""
    sentence: str
    """Why there is nothing to vote on; "" while there is."""
    pairs: int
    """Pairs that can be voted on for the ratings, by anybody."""
    left: int
    """Of these, what this voter has not seen."""
    identical: int
    """Pairs of equal answers, about which nobody is asked."""

    @property
    def left_words(self) -> str:
        """How much is left, without telling which votes were test items."""
        if self.left <= FEW:
            return f"fewer than {FEW + 1} left" if self.left else "nothing left"
        return f"about {self.left // 10 * 10} left"


def room_of(pool: Pool) -> Room:
    """What can be said of a voter's pool."""
    pairs = sum(1 for sides in pool.sides() for _ in pool.rated(sides))
    left = sum(len(pool.left(sides)) for sides in pool.sides())
    identical = pool.identical()
    state, sentence = _state(pool, pairs, left, identical)
    return Room(state, sentence, pairs, left, identical)


def voted_by(comparison: Comparison, voter: User) -> int:
    """Votes of this voter that count."""
    return int(Vote.objects.filter(comparison=comparison, voter=voter, undone=None).count())


def sides_told(vote: Vote) -> dict[str, Any]:
    """Who wrote what, for the voter after the vote."""
    return {
        side: {
            "name": arm.name,
            "position": arm.position,
            "model": arm.model,
            "checkpoint": arm.checkpoint_id,
        }
        for side, arm in (("left", vote.left), ("right", vote.right))
    }


def _state(pool: Pool, pairs: int, left: int, identical: int) -> tuple[str, str]:
    if left:
        return "open", ""
    if len(pool.arms) < 2:
        return "one-arm", "This comparison has one model only; a vote is between two."
    if pairs:
        return "done", "You have voted on every pair there is. More prompts or samples make more."
    if identical:
        return "identical", (
            f"The models give the same answer wherever both have answered ({identical} pairs): there is "
            "nothing to choose between."
        )
    return "not-ready", (
        "No two models have answered the same prompt yet; votes can begin once they have."
    )
