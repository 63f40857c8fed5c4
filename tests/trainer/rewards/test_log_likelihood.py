"""How likely the model finds the reference: total, per token, with and without its end."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.registry import Answer, Unscorable
from trainer.rewards.log_likelihood import LogLikelihood


def answer(*logps: float, **row: Any) -> Answer:
    read = {"answer": logps} if logps else {}
    return Answer("p", "something else", 3, "stop", {"answer": "42", **row}, read=read)


def test_total_and_mean_with_and_without_the_end_token() -> None:
    read = answer(-0.5, -1.5, -4.0)
    assert LogLikelihood().score(read) == -6.0
    assert LogLikelihood(per="token").score(read) == -2.0
    assert LogLikelihood(end_token=False).score(read) == -2.0
    assert LogLikelihood(end_token=False, per="token").score(read) == -1.0


def test_it_asks_for_the_column_that_it_reads() -> None:
    assert LogLikelihood().reads == "answer"
    assert LogLikelihood(column="gold").reads == "gold"


def test_what_cannot_be_read_is_no_score() -> None:
    with pytest.raises(Unscorable, match="no reference in 'gold'"):
        LogLikelihood(column="gold").score(answer(-1.0))
    with pytest.raises(Unscorable, match="cannot read 'answer'"):
        LogLikelihood().score(answer())
    with pytest.raises(Unscorable, match="'answer' has no tokens"):
        LogLikelihood(end_token=False).score(answer(-1.0))


def test_it_is_measured_and_adds_nothing_to_a_reward() -> None:
    assert LogLikelihood().weight == 0
