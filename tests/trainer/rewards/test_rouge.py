"""ROUGE against its definition, and against figures of the rouge-score package."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from trainer.registry import Answer, Unscorable
from trainer.rewards._references import common_subsequence
from trainer.rewards.rouge import Rouge

CAT = ("the cat was found under the bed", "The cat was under the bed.")


def rouge(said: str, wanted: Any, **knobs: Any) -> float:
    return Rouge(**knobs).score(Answer("", said, 1, "stop", {"answer": wanted}))


def lcs(one: str, other: str) -> int:
    """The textbook's table."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            diagonal = table[i - 1][j - 1] + 1
            table[i][j] = diagonal if a == b else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(30))
def test_the_common_subsequence_is_the_textbooks(seed: int) -> None:
    draw = random.Random(seed)
    one, other = ("".join(draw.choices("abcd", k=draw.randint(0, 90))) for _ in range(2))
    assert common_subsequence(one, other) == lcs(one, other)


def test_it_counts_words_and_pairs_as_often_as_both_have_them() -> None:
    # 6 of 7 words and 6 of 6; pairs: "the cat", "cat was", "under the", "the bed" of 6 and 5.
    assert rouge(*CAT, variant="rouge-1") == pytest.approx(2 * 6 / 13)
    assert rouge(*CAT, variant="rouge-1", measure="precision") == pytest.approx(6 / 7)
    assert rouge(*CAT, variant="rouge-1", measure="recall") == 1.0
    assert rouge(*CAT, variant="rouge-2") == pytest.approx(2 * 4 / 11)
    assert rouge(*CAT, variant="rouge-l") == pytest.approx(2 * 6 / 13)
    assert rouge("the the the", "the cat", variant="rouge-1", measure="precision") == 1 / 3


def test_it_gives_what_the_rouge_score_package_gives() -> None:
    """Figures of rouge-score 0.1.2 without stemming."""
    fox = ("A fox-hunt in 1999!", "In 1999, a fox hunted.")
    figures = [rouge(*fox, variant=variant) for variant in ("rouge-1", "rouge-2", "rouge-l")]
    assert figures == pytest.approx([0.8, 0.5, 0.4])


@pytest.mark.parametrize("seed", range(10))
def test_overlap_is_that_of_the_definition(seed: int) -> None:
    draw = random.Random(seed)
    said, wanted = (" ".join(draw.choices("abcde", k=draw.randint(1, 30))) for _ in range(2))
    one, other = said.split(), wanted.split()
    for size, variant in ((1, "rouge-1"), (2, "rouge-2")):
        counts = [Counter(zip(*(w[i:] for i in range(size)), strict=False)) for w in (one, other)]
        shared = sum(min(counts[0][gram], counts[1][gram]) for gram in counts[0])
        total = counts[0].total() + counts[1].total()
        assert rouge(said, wanted, variant=variant) == pytest.approx(2 * shared / max(total, 1))
    expected = 2 * lcs(said.replace(" ", ""), wanted.replace(" ", "")) / (len(one) + len(other))
    assert rouge(said, wanted) == pytest.approx(expected)


def test_the_best_reference_counts_and_words_are_found_without_marks() -> None:
    assert rouge("Yes!", ["no", "yes"]) == 1.0
    assert rouge("größer", "größer als", words="unicode", measure="precision") == 1.0
    assert rouge("日本", "日本") == 0.0
    assert rouge("", "something") == rouge("something", "...") == 0.0


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, "no reference in 'answer'"),
        ([], "no reference"),
        ({"a": 1}, "no text"),
        (True, "no text"),
    ],
)
def test_without_a_reference_there_is_no_score(wanted: Any, said: str) -> None:
    with pytest.raises(Unscorable, match=said):
        rouge("x", wanted)
