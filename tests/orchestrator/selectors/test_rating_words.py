"""Words claim no more than votes permit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.evidence import Interval, Rating, Ratings
from orchestrator.selectors.rating_words import cautions, standing


def rated(ranks: dict[str, int], **words: Any) -> Ratings:
    whole = Interval(900.0, 1100.0, 0.95, "made up")
    ratings = tuple(
        Rating(arm, 1000.0, whole, rank, 50, 20, 20, 10, 0) for arm, rank in ranks.items()
    )
    facts: dict[str, Any] = {"left_advantage": 0.0, "tie_share": 0.2, "votes": 150, "judges": 3}
    return Ratings(
        ratings=ratings,
        left_interval=None,
        style={},
        style_intervals={},
        level=0.95,
        **{"prompts": 50, **facts, **words},
    )


@pytest.mark.parametrize(
    ("ranks", "words", "said"),
    [
        ({"a": 1, "b": 2}, {}, "a is ahead of b (150 votes on 50 prompts, 95 % intervals)."),
        ({"a": 1, "b": 2, "c": 3}, {}, "a is ahead of b and c (150 votes on 50 prompts, 95 % intervals)."),
        ({"a": 1, "b": 1}, {}, "No model is surely ahead: 150 votes on 50 prompts leave their order open."),
        ({"a": 1, "b": 1, "c": 3}, {}, "a and b cannot be told apart; c is surely behind (150 votes on "
         "50 prompts)."),
        ({"a": 1, "b": 2}, {"votes": 19}, "Not enough votes to say which is better: 19 votes on 50 prompts; "
         "an order is told from 20 votes on 10 prompts on."),
        ({"a": 1, "b": 2}, {"prompts": 9}, "Not enough votes to say which is better: 150 votes on 9 prompts; "
         "an order is told from 20 votes on 10 prompts on."),
    ],
)  # fmt: skip
def test_standing(ranks: dict[str, int], words: dict[str, Any], said: str) -> None:
    assert standing(rated(ranks, **words)) == said


def test_cautions() -> None:
    two = {"a": 1, "b": 1}
    assert cautions(rated(two), people=True) == []
    won = rated(two)
    first = replace(won.ratings[0], wins=9, losses=0)
    assert cautions(replace(won, ratings=(first, won.ratings[1])), people=True)[0].startswith(
        "a: won or lost every vote"
    )
    assert "Few votes" in cautions(rated(two, votes=40), people=True)[0]
    assert "one person's" in cautions(rated(two, judges=1), people=True)[0]
    assert "not people's" in cautions(rated(two, judges=1), people=False)[0]
    assert "60 % of the votes are ties" in cautions(rated(two, tie_share=0.6), people=True)[0]
    assert "both ways round" in cautions(rated(two, left_advantage=None), people=True)[0]
