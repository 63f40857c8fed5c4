"""Which pair comes next, and whether known strengths come out of votes on what was drawn."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from orchestrator import evidence
from orchestrator.selectors.ballot_pool import Pool
from orchestrator.services.ballot_draw import AGAIN, Drawn, ballot_draw

ARMS = (11, 12, 13, 14)


def pool_of(arms: tuple[int, ...] = ARMS, items: int = 30, same: bool = False) -> Pool:
    return Pool(
        arms=arms,
        texts={
            (item, 0): {arm: "x" if same else f"{arm}" for arm in arms} for item in range(items)
        },
    )


def pair_of(drawn: Drawn) -> tuple[tuple[int, int], tuple[int, int]]:
    first, second = sorted((drawn.left, drawn.right))
    return (drawn.item, drawn.index), (first, second)


def drawn_all(pool: Pool, seed: int = 0, gold_rate: float = 0.0) -> list[Drawn]:
    """Everything that one voter is shown, who votes on all of it."""
    chance, found = random.Random(seed), []
    while (drawn := ballot_draw(pool, chance, gold_rate=gold_rate)) is not None:
        found.append(drawn)
        pool.seen.add(pair_of(drawn))
        if not drawn.gold:
            pool.votes[pair_of(drawn)] += 1
    return found


def test_a_voter_sees_every_pair_once() -> None:
    found = drawn_all(pool_of(items=10))
    assert len(found) == 10 * 6
    assert len({pair_of(one) for one in found}) == len(found)


def test_equal_and_missing_answers_are_not_shown() -> None:
    assert drawn_all(pool_of(same=True)) == []
    pool = pool_of(items=3)
    del pool.texts[0, 0][11]
    pool.texts[1, 0] = {11: "same", 12: "same", 13: "same", 14: "another"}
    shown = Counter(one.item for one in drawn_all(pool))
    assert shown == {0: 3, 1: 3, 2: 6}
    assert all(14 in (one.left, one.right) for one in drawn_all(pool_of_one(pool)))


def pool_of_one(pool: Pool) -> Pool:
    return Pool(arms=pool.arms, texts={(1, 0): pool.texts[1, 0]})


def test_sides_are_drawn_by_chance() -> None:
    found = drawn_all(pool_of(items=200, arms=(11, 12)), seed=3)
    left = sum(one.left == 11 for one in found)
    # 200 tosses: outside of this only once in ten thousand seeds.
    assert 72 <= left <= 128


def test_the_least_voted_arms_come_first() -> None:
    pool = pool_of(items=100)
    for item in range(20):
        for sides in pool.sides():
            if sides != (13, 14):
                pool.votes[(item, 0), sides] += 1
    first = [pair_of(one)[1] for one in drawn_all(pool, seed=1)][:18]
    assert first == [(13, 14)] * 18


def test_arms_are_voted_on_equally_often() -> None:
    counts = Counter(pair_of(one)[1] for one in drawn_all(pool_of(items=100))[:120])
    assert max(counts.values()) - min(counts.values()) <= 3


def test_the_least_voted_prompts_come_first_and_some_come_again() -> None:
    pool = pool_of(arms=(11, 12), items=400)
    for item in range(200):
        pool.votes[(item, 0), (11, 12)] = 1
    shown = [one.item for one in drawn_all(pool, seed=5)][:150]
    again = sum(item < 200 for item in shown)
    assert 150 * AGAIN / 2 < again < 150 * AGAIN * 2


def test_order_depends_on_chance_alone() -> None:
    one, other = (drawn_all(pool_of(), seed=seed)[:10] for seed in (1, 2))
    assert one != other
    assert one == drawn_all(pool_of(), seed=1)[:10]


def golden(items: int = 300, better: int = 11) -> Pool:
    pool = pool_of(arms=(11, 12), items=items)
    pool.aside = frozenset(range(items // 3))
    pool.gold = {((item, 0), (11, 12)): better for item in pool.aside}
    return pool


def test_test_items_come_at_their_rate_and_say_which_side_is_right() -> None:
    found = drawn_all(golden(), seed=2, gold_rate=0.2)
    gold = [one for one in found if one.gold]
    assert len(found) - len(gold) == 200, "every pair that rates was shown"
    assert 0.12 < len(gold) / len(found) < 0.28
    assert {one.gold for one in gold} == {"left", "right"}
    assert all((one.left if one.gold == "left" else one.right) == 11 for one in gold)
    assert not drawn_all(golden(), gold_rate=0.0)[0].gold


def test_prompts_that_are_set_aside_rate_nobody() -> None:
    pool = golden()
    # Both answers right, or both wrong: not every pair on them is a test item.
    pool.gold = {pair: better for pair, better in pool.gold.items() if pair[0][0] % 2}
    found = drawn_all(pool, gold_rate=0.5)
    assert all(one.item >= 100 for one in found if not one.gold)
    assert all(one.item < 100 for one in found if one.gold)


def test_nothing_left_is_none_even_with_test_items_left() -> None:
    assert len([one for one in drawn_all(golden(items=3), gold_rate=0.0)]) == 2


STRENGTHS = {11: 900.0, 12: 960.0, 13: 1020.0, 14: 1120.0}
TIES = 0.5
"""Davidson's tie parameter: the odds of a tie between equals are half of those of each side."""


def votes_drawn(seed: int, voters: int = 6, each: int = 300) -> list[evidence.Vote]:
    """Votes of voters who go by the strengths, but the last, who clicks blindly."""
    chance = random.Random(seed)
    pool = pool_of(items=400)
    pool.aside = frozenset(range(40))
    pool.gold = {
        ((item, 0), sides): sides[item % 2] for item in pool.aside for sides in pool.sides()
    }
    seen: list[set[object]] = [set() for _ in range(voters)]
    votes = []
    for turn in range(voters * each):
        voter = turn % voters
        pool.seen = seen[voter]  # type: ignore[assignment]
        drawn = ballot_draw(pool, chance, gold_rate=0.1)
        assert drawn is not None
        pool.seen.add(pair_of(drawn))
        said = said_of(drawn, chance, blind=voter == voters - 1)
        if not drawn.gold:
            pool.votes[pair_of(drawn)] += 1
        votes.append(
            evidence.Vote(
                judge=f"v{voter}",
                prompt=str(drawn.item),
                left=str(drawn.left),
                right=str(drawn.right),
                outcome=said,  # type: ignore[arg-type]
                gold=drawn.gold or None,  # type: ignore[arg-type]
            )
        )
    return votes


def said_of(drawn: Drawn, chance: random.Random, *, blind: bool) -> str:
    if blind:
        return chance.choice(["left", "right"])
    if drawn.gold:
        return drawn.gold if chance.random() < 0.9 else "tie"
    left, right = (10 ** (STRENGTHS[arm] / 400) for arm in (drawn.left, drawn.right))
    tie = TIES * math.sqrt(left * right)
    return chance.choices(["left", "right", "tie"], [left, right, tie])[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_known_strengths_come_out(seed: int) -> None:
    votes = votes_drawn(seed)
    careful = [vote for vote in votes if vote.judge != "v5"]
    found = evidence.ratings(careful, resamples=200)
    assert [one.arm for one in found.ratings] == ["14", "13", "12", "11"]
    for one in found.ratings:
        # Four intervals of 95 % in three runs: what counts is that no estimate is far off.
        assert abs(one.rating - STRENGTHS[int(one.arm)]) < 50, one
        assert one.interval.low - 20 < STRENGTHS[int(one.arm)] < one.interval.high + 20, one
    assert abs(found.left_advantage or 0) < 40

    weights = evidence.judge_weights(votes)
    assert weights["v5"] < 0.3 < 0.6 < min(weights[f"v{n}"] for n in range(5))
    spread = [
        ratings.ratings[0].rating - ratings.ratings[-1].rating
        for ratings in (
            evidence.ratings(votes, resamples=100),
            evidence.ratings(votes, weights=weights, resamples=100),
        )
    ]
    assert spread[0] < spread[1], "the one who clicks blindly draws the models together"
