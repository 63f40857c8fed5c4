"""Perplexity of the reference."""

from __future__ import annotations

import math

import pytest

from trainer.registry import Answer, Unscorable
from trainer.rewards.perplexity import Perplexity


def perplexity(*logps: float, **knobs: bool) -> float:
    return Perplexity(**knobs).score(
        Answer("p", "", 0, "stop", {"answer": "x"}, read={"answer": logps})
    )


def test_a_uniform_guess_among_so_many_has_that_perplexity() -> None:
    assert perplexity(*[-math.log(50)] * 7) == pytest.approx(50)
    assert perplexity(0.0, 0.0) == 1.0
    assert perplexity(-1.0, -3.0) == pytest.approx(math.exp(2))
    assert perplexity(-1.0, -3.0, end_token=False) == pytest.approx(math.e)


def test_lower_is_better_and_no_number_is_too_large() -> None:
    assert Perplexity.better == "lower"
    with pytest.raises(Unscorable, match="all but impossible"):
        perplexity(-1e4)
    with pytest.raises(Unscorable, match="all but impossible"):
        perplexity(-math.inf)


def test_it_is_measured_and_adds_nothing_to_a_reward() -> None:
    assert Perplexity().weight == 0
