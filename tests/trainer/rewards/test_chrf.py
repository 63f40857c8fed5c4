"""Sentence chrF against its definition, and against sacrebleu itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sacrebleu import sentence_chrf

from trainer.registry import Answer, Unscorable
from trainer.rewards.chrf import Chrf


def chrf(said: str, wanted: Any, **knobs: Any) -> float:
    return Chrf(**knobs).score(Answer("", said, 1, "stop", {"answer": wanted}))


def by_definition(said: str, wanted: str, longest: int, beta: int) -> float:
    """Popović 2015, equation 1: the F score of mean precision and mean recall, white space left out."""
    one, other = said.replace(" ", ""), wanted.replace(" ", "")
    precisions, recalls = [], []
    for size in range(1, longest + 1):
        grams = [Counter(t[i : i + size] for i in range(len(t) - size + 1)) for t in (one, other)]
        shared = (grams[0] & grams[1]).total()
        precisions.append(shared / grams[0].total())
        recalls.append(shared / grams[1].total())
    p, r = sum(precisions) / longest, sum(recalls) / longest
    return (1 + beta**2) * p * r / (beta**2 * p + r)


@pytest.mark.parametrize(("longest", "beta"), [(6, 2), (3, 1), (1, 3)])
def test_it_is_the_published_formula(longest: int, beta: int) -> None:
    said, wanted = "the cat sat on a mat", "the cat is on the mat"
    expected = by_definition(said, wanted, longest, beta)
    assert chrf(said, wanted, longest=longest, beta=beta) == pytest.approx(expected)


@pytest.mark.parametrize("said", ["a cat sat there", "cat", "", "Zzz"])
@pytest.mark.parametrize("words", [0, 2])
def test_it_is_a_hundredth_of_sacrebleus(said: str, words: int) -> None:
    references = ["the cat sat here", "a cat was there"]
    expected = sentence_chrf(said, references, word_order=words).score / 100
    assert chrf(said, references, longest_words=words) == pytest.approx(expected)


def test_case_counts_unless_asked_not_to() -> None:
    assert chrf("CAT", "cat") == 0.0
    assert chrf("CAT", "cat", lowercase=True) == 1.0


def test_without_a_reference_there_is_no_score() -> None:
    with pytest.raises(Unscorable):
        chrf("x", [])
