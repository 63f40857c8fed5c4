"""The arithmetic source."""

from __future__ import annotations

from itertools import islice
from typing import Any

from trainer.data.arithmetic import Arithmetic


def rows(count: int = 500, split: str = "train", seed: int = 0, **knobs: Any) -> list[Any]:
    return list(islice(Arithmetic(**knobs).rows(split, seed), count))


def test_the_answer_is_the_value_of_the_prompt() -> None:
    for row in rows():
        text = row["prompt"].removesuffix(" = ")
        sign = "+" if "+" in text else "-"
        left, right = map(int, text.split(sign))
        assert int(row["answer"]) == (left + right if sign == "+" else left - right)
        assert row["chosen"] == row["answer"] == row["completion"] != row["rejected"]


def test_noise_spoils_its_share_of_the_demonstrations() -> None:
    spoilt = sum(row["completion"] != row["answer"] for row in rows(4000, noise=0.3)) / 4000
    assert abs(spoilt - 0.3) < 0.03


def test_operands_stay_below_the_largest() -> None:
    assert all(len(row["prompt"]) <= len("9-9 = ") for row in rows(largest=9))


def test_equal_seeds_give_equal_rows_and_others_do_not() -> None:
    assert rows(20) == rows(20)
    assert rows(20) != rows(20, seed=1) != rows(20, split="test")


def test_every_character_is_announced() -> None:
    known = set(Arithmetic().characters())
    assert all(set(row["prompt"] + row["chosen"] + row["rejected"]) <= known for row in rows())
