"""Sentence BLEU against its definition, and against sacrebleu itself."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from sacrebleu import sentence_bleu

from trainer.registry import Answer, Unscorable
from trainer.rewards.bleu import Bleu

SAID = "the cat sat on the mat near the door of the house"
WANTED = "the cat is on the mat near the door of a house"


def bleu(said: str, wanted: Any, **knobs: Any) -> float:
    return Bleu(**knobs).score(Answer("", said, 1, "stop", {"answer": wanted}))


def by_definition(said: list[str], wanted: list[str], longest: int) -> float:
    """Papineni et al., equation of section 2.3, one reference and nothing to smooth."""
    logs = []
    for size in range(1, longest + 1):
        grams = [
            Counter(tuple(w[i : i + size]) for i in range(len(w) - size + 1))
            for w in (said, wanted)
        ]
        logs.append(math.log((grams[0] & grams[1]).total() / grams[0].total()))
    brevity = min(0.0, 1 - len(wanted) / len(said))
    return math.exp(brevity + sum(logs) / longest)


@pytest.mark.parametrize("longest", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [12, 10])
def test_it_is_the_published_formula(longest: int, cut: int) -> None:
    said = SAID.split()[:cut]
    expected = by_definition(said, WANTED.split(), longest)
    assert bleu(" ".join(said), WANTED, longest=longest) == pytest.approx(expected)


@pytest.mark.parametrize("said", [SAID, "A cat.", "cat", "", "Nothing alike"])
def test_it_is_a_hundredth_of_sacrebleus(said: str) -> None:
    references = [WANTED, "a cat sat there"]
    expected = sentence_bleu(said, references, use_effective_order=True).score / 100
    assert bleu(said, references) == pytest.approx(expected)
    assert 0 <= bleu(said, references) <= 1


def test_knobs_reach_it() -> None:
    assert bleu("THE CAT", "the cat") == 0.0
    assert bleu("THE CAT", "the cat", lowercase=True) == pytest.approx(1.0)
    assert bleu("世界好", "世界你好", tokenize="char") > bleu("世界好", "世界你好")
    assert bleu("a b c x", "a b c d", smoothing="none") == 0 < bleu("a b c x", "a b c d")


def test_without_a_reference_there_is_no_score() -> None:
    with pytest.raises(Unscorable):
        bleu("x", None)
