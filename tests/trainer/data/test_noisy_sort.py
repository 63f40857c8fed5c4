"""The noisy-sort source."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from trainer.data.noisy_sort import NoisySort


def rows(count: int = 500, split: str = "train", seed: int = 0, **knobs: Any) -> list[Any]:
    return list(islice(NoisySort(**knobs).rows(split, seed), count))


def test_the_answer_is_the_sorted_digits_and_the_others_are_permutations() -> None:
    for row in rows():
        digits = row["prompt"].removeprefix("sort ").removesuffix(" = ")
        assert row["answer"] == row["chosen"] == "".join(sorted(digits))
        assert sorted(row["completion"]) == sorted(row["rejected"]) == sorted(digits)
        assert row["rejected"] != row["chosen"]
        assert row["label"] == (row["completion"] == row["answer"])


@pytest.mark.parametrize("noise", [0.0, 0.6, 1.0])
def test_noise_is_the_share_of_wrong_demonstrations(noise: float) -> None:
    wrong = sum(row["completion"] != row["answer"] for row in rows(4000, noise=noise)) / 4000
    assert abs(wrong - noise) < 0.03


def test_equal_seeds_give_equal_rows_and_others_do_not() -> None:
    assert rows(20) == rows(20)
    assert rows(20) != rows(20, seed=1) != rows(20, split="test")


def test_every_character_is_announced() -> None:
    known = set(NoisySort().characters())
    assert all(set(row["prompt"] + row["chosen"]) <= known for row in rows())
