"""Ratings of a comparison's models from votes: people's, and apart from them those of judge models."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator import evidence
from orchestrator.models import GoldMark, Vote
from orchestrator.selectors.ballot_pool import ballot_pool
from orchestrator.selectors.rating_words import cautions, standing
from orchestrator.selectors.votes import model_votes, people_votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Comparison

NOBODY = {True: "Nobody has voted yet.", False: "No judge model was asked."}
GUESSING = (
    "With weights there is nothing to rate by: on the test items no voter is better than a guess."
)

FITS = 32
"""Ratings that a web process remembers."""


def ratings_shape(
    comparison: Comparison, *, style_control: bool = False, weighted: bool = False
) -> dict[str, Any]:
    """The ratings as JSON. `weighted`: votes count by how their voter does on test items.

    `identical` counts pairs of equal answers, which nobody is asked about: ties apart from those of votes.
    """
    people = people_votes(comparison, with_style=style_control)
    models, failed = model_votes(comparison, with_style=style_control)
    words = {"style_control": style_control, "weighted": weighted}
    return {
        **words,
        "arms": list(comparison.arms.order_by("position").values_list("name", flat=True)),
        "undone": Vote.objects.filter(comparison=comparison).exclude(undone=None).count(),
        "identical": ballot_pool(comparison).identical(),
        "gold_marks": GoldMark.objects.filter(comparison=comparison).count(),
        "people": _block(people, people=True, **words),
        "models": {**_block(models, people=False, **words), "failed": failed},
    }


def _block(
    votes: Sequence[evidence.Vote], *, people: bool, style_control: bool, weighted: bool
) -> dict[str, Any]:
    weights = evidence.judge_weights(votes)
    rated = [vote for vote in votes if vote.gold is None]
    found, reason = None, ""
    if not rated:
        reason = NOBODY[people] if not votes else "All votes so far were on test items."
    elif weighted and not any(weights.values()):
        reason = GUESSING
    else:
        counted = tuple(weights.items()) if weighted else ()
        try:
            found = _fitted(tuple(rated), style_control, counted)
        except ValueError as error:
            reason = _plain(str(error))
    return {
        "votes": len(rated),
        "gold": len(votes) - len(rated),
        "judges": len({vote.judge for vote in votes}),
        "prompts": len({vote.prompt for vote in rated}),
        "sentence": standing(found) if found else reason,
        "cautions": cautions(found, people=people) if found else [],
        **_rated(found),
        "wins": _wins(rated),
        **_judges(votes, weights),
        "position": _position(votes),
    }


@lru_cache(maxsize=FITS)
def _fitted(
    votes: tuple[evidence.Vote, ...], style_control: bool, weights: tuple[tuple[str, float], ...]
) -> evidence.Ratings:
    """Fitted once for the same votes, however often the page is looked at."""
    return evidence.ratings(votes, style_control=style_control, weights=dict(weights) or None)


def _rated(found: evidence.Ratings | None) -> dict[str, Any]:
    if found is None:
        return {"ratings": [], "left_advantage": None, "style": [], "tie_share": None}
    return {
        "ratings": [{**asdict(one), "interval": _interval(one.interval)} for one in found.ratings],
        "left_advantage": None
        if found.left_advantage is None
        else {"points": found.left_advantage, "interval": _interval(found.left_interval)},
        "style": [
            {
                "feature": name,
                "points": points,
                "interval": _interval(found.style_intervals[name]),
            }
            for name, points in found.style.items()
        ],
        "tie_share": found.tie_share,
    }


def _wins(votes: Sequence[evidence.Vote]) -> list[dict[str, Any]]:
    """Every two models that met, each way round, and how that came out for the first."""
    met: dict[tuple[str, str], Counter[str]] = {}
    for vote in votes:
        for arm, other, own in ((vote.left, vote.right, "left"), (vote.right, vote.left, "right")):
            said: str = vote.outcome
            if said in ("left", "right"):
                said = "wins" if said == own else "losses"
            met.setdefault((arm, other), Counter())[said] += 1
    return [
        {
            "arm": arm,
            "against": other,
            "votes": counts.total(),
            "wins": counts["wins"],
            "losses": counts["losses"],
            "ties": counts["tie"],
            "both_bad": counts["both bad"],
        }
        for (arm, other), counts in sorted(met.items())
    ]


def _judges(votes: Sequence[evidence.Vote], weights: dict[str, float]) -> dict[str, Any]:
    found, fleiss = evidence.agreement(votes)
    judges = [
        {
            "judge": one.judge,
            "votes": one.votes,
            "gold": one.gold,
            "gold_right": one.gold_right,
            "gold_interval": _interval(one.gold_interval),
            "left_share": one.left_share,
            "weight": weights[one.judge],
            "kappas": [
                {"judge": other, "kappa": kappa, "shared": one.shared[other]}
                for other, kappa in one.kappas.items()
            ],
        }
        for one in found
    ]
    return {"agreement": judges, "fleiss": fleiss}


def _position(votes: Sequence[evidence.Vote]) -> dict[str, Any]:
    found = evidence.position_bias(votes)
    return {**asdict(found), "interval": _interval(found.interval)}


def _interval(found: evidence.Interval | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def _plain(sentence: str) -> str:
    """A sentence about an argument without the argument's name."""
    text = sentence.removeprefix("votes: ")
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
