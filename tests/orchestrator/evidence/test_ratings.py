"""Ratings recover known strengths, sides and tastes, with intervals that hold them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from orchestrator.evidence import Ratings, Vote, ratings
from orchestrator.evidence.ratings import MEAN, POINTS
from tests.orchestrator.evidence.simulated import STRENGTHS, ratings_cover, voted


def logits(found: Ratings) -> dict[str, float]:
    return {each.arm: (each.rating - MEAN) / POINTS for each in found.ratings}


def test_known_strengths_come_back() -> None:
    votes = voted(np.random.default_rng(0), prompts=400, votes=6_000, left=0.3)
    found = ratings(votes, resamples=200)
    assert logits(found) == pytest.approx(STRENGTHS, abs=0.08)
    assert [each.arm for each in found.ratings] == ["d", "c", "b", "a"]
    assert found.left_advantage == pytest.approx(0.3 * POINTS, abs=0.08 * POINTS)
    assert found.left_interval is not None
    assert found.left_interval.low > 0
    assert all(each.interval.holds(MEAN + POINTS * STRENGTHS[each.arm]) for each in found.ratings)
    assert (found.votes, found.prompts, found.judges) == (6_000, 400, 3)
    json.dumps(asdict(found))


def test_ranks_say_only_what_is_sure() -> None:
    few = ratings(voted(np.random.default_rng(1), prompts=20, votes=30), resamples=200)
    many = ratings(voted(np.random.default_rng(1), prompts=2_000, votes=20_000), resamples=200)
    assert [each.rank for each in many.ratings] == [1, 2, 3, 4]
    assert [each.rank for each in few.ratings][1] == 1


def test_counts_add_up() -> None:
    found = ratings(voted(np.random.default_rng(2), prompts=50, votes=300), resamples=100)
    for each in found.ratings:
        assert each.votes == each.wins + each.losses + each.ties + each.both_bad
    assert sum(each.votes for each in found.ratings) == 600
    assert sum(each.both_bad for each in found.ratings) > 0
    assert found.tie_share == pytest.approx(
        sum(each.ties + each.both_bad for each in found.ratings) / 600
    )


def test_both_bad_rates_like_a_tie() -> None:
    votes = voted(np.random.default_rng(3), prompts=50, votes=300)
    ties = [replace(vote, outcome="tie") if vote.outcome == "both bad" else vote for vote in votes]
    assert logits(ratings(votes, resamples=100)) == logits(ratings(ties, resamples=100))


def test_turning_all_pairs_round_changes_the_side_alone() -> None:
    votes = voted(np.random.default_rng(4), prompts=100, votes=800)
    other = {"left": "right", "right": "left"}
    turned = [
        replace(
            vote, left=vote.right, right=vote.left, outcome=other.get(vote.outcome, vote.outcome)
        )
        for vote in votes
    ]
    one, two = ratings(votes, resamples=100), ratings(turned, resamples=100)
    assert logits(two) == pytest.approx(logits(one), abs=1e-6)
    assert two.left_advantage == pytest.approx(-(one.left_advantage or 0), abs=1e-4)


def test_style_control_tells_length_from_strength() -> None:
    """Arm d writes longer answers, and judges like length: plain ratings credit d with it."""
    votes = voted(np.random.default_rng(5), prompts=400, votes=8_000, length=0.6)
    biased = []
    rng = np.random.default_rng(6)
    for vote in votes:
        # Drop half of the votes where d was the shorter one, so that d is mostly longer.
        d_left = vote.left == "d"
        if "d" in (vote.left, vote.right):
            longer = (vote.left_style.length > vote.right_style.length) == d_left  # type: ignore[union-attr]
            if not longer and rng.random() < 0.8:
                continue
        biased.append(vote)
    plain, controlled = (
        ratings(biased, resamples=200),
        ratings(biased, style_control=True, resamples=200),
    )
    assert abs(logits(plain)["d"] - STRENGTHS["d"]) > 0.15
    assert logits(controlled) == pytest.approx(STRENGTHS, abs=0.1)
    assert set(controlled.style) == {"length"}
    assert controlled.style_intervals["length"].low > 0
    assert controlled.style["length"] == pytest.approx(0.6 * POINTS, rel=0.25)


def test_a_judge_without_weight_says_nothing() -> None:
    votes = voted(np.random.default_rng(7), prompts=100, votes=900)
    noise = [replace(vote, judge="noise", outcome="right") for vote in votes]
    clean = ratings(votes, resamples=100)
    ignored = ratings([*votes, *noise], weights={"noise": 0.0}, resamples=100)
    heard = ratings([*votes, *noise], resamples=100)
    assert logits(ignored) == pytest.approx(logits(clean), abs=1e-9)
    assert abs((heard.left_advantage or 0) - (clean.left_advantage or 0)) > 50


def test_gold_votes_rate_nobody() -> None:
    votes = voted(np.random.default_rng(8), prompts=60, votes=300)
    gold = [replace(vote, outcome="left", gold="left") for vote in votes[:100]]
    assert ratings([*votes, *gold], resamples=100) == ratings(votes, resamples=100)


def test_many_votes_on_a_prompt_are_not_many_prompts() -> None:
    votes = voted(np.random.default_rng(9), prompts=60, votes=240)
    single, copied = ratings(votes, resamples=300), ratings(votes * 5, resamples=300)
    for one, two in zip(single.ratings, copied.ratings, strict=True):
        assert two.interval.high - two.interval.low == pytest.approx(
            one.interval.high - one.interval.low, rel=0.1
        )


def test_arms_that_never_changed_sides_have_no_side_to_tell() -> None:
    votes = [
        Vote("j", f"p{at}", "a", "b", outcome)  # type: ignore[arg-type]
        for at, outcome in enumerate(["left", "left", "right", "tie"] * 5)
    ]
    found = ratings(votes, resamples=100)
    assert found.left_advantage is None
    assert found.left_interval is None
    # Ten wins to five: the odds among votes that decide, drawn a little to even by the prior.
    assert logits(found)["a"] - logits(found)["b"] == pytest.approx(np.log(2), abs=0.05)


@pytest.mark.parametrize(
    ("votes", "how", "words"),
    [
        ([], {}, "0 prompts"),
        (
            [Vote("j", "p", "a", "b", "left"), Vote("j", "q", "c", "d", "left")],
            {},
            "'c' was never compared with 'a'",
        ),
        (
            [Vote("j", "p", "a", "b", "left"), Vote("j", "q", "b", "a", "left")],
            {"style_control": True},
            "has no style",
        ),
        (
            [Vote("j", "p", "a", "b", "left"), Vote("j", "q", "b", "a", "left")],
            {"weights": {"j": -1.0}},
            "weights",
        ),
        (
            [Vote("j", "p", "a", "b", "left"), Vote("k", "q", "b", "c", "left")],
            {"weights": {"k": 0.0}},
            "'c' was never compared",
        ),
    ],
)
def test_bad_input_is_told_in_words(votes: list[Vote], how: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ratings(votes, **how)  # type: ignore[arg-type]


@pytest.mark.slow
def test_intervals_hold_the_truth_also_where_prompts_favour_arms() -> None:
    # 200 sets of four ratings know their share to a point.
    assert 0.92 <= ratings_cover(80, 320, 200, seed=0) <= 0.98
