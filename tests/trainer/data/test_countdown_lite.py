"""The countdown-lite source."""

from __future__ import annotations

from itertools import islice
from typing import Any

from trainer.data.countdown_lite import CountdownLite
from trainer.registry import Answer
from trainer.rewards.countdown import Countdown


def rows(count: int = 300, split: str = "train", seed: int = 0, **knobs: Any) -> list[Any]:
    return list(islice(CountdownLite(**knobs).rows(split, seed), count))


def paid(text: str, row: Any) -> float | None:
    return Countdown().score(Answer(row["prompt"], text, 5, "stop", row))


def test_the_answer_hits_and_the_rejected_one_misses_in_the_right_form() -> None:
    for row in rows():
        assert paid(row["answer"], row) == paid(row["chosen"], row) == 1.0
        assert paid(row["rejected"], row) == 0.1
        assert paid(row["completion"], row) in (0.1, 1.0)


def test_quality_is_the_share_of_demonstrations_that_must_hit() -> None:
    by_chance = sum(paid(row["completion"], row) == 1.0 for row in rows(2000)) / 2000
    assert 0.15 < by_chance < 0.3
    assert all(paid(row["completion"], row) == 1.0 for row in rows(quality=1.0))


def test_equal_seeds_give_equal_rows_and_others_do_not() -> None:
    assert rows(20) == rows(20)
    assert rows(20) != rows(20, seed=1) != rows(20, split="test")


def test_every_character_is_announced() -> None:
    known = set(CountdownLite().characters())
    assert all(set(row["prompt"] + row["chosen"]) <= known for row in rows())
