"""Clip ratios: shares of tokens or of answers, and extrema that filtered answers do not touch."""

from __future__ import annotations

import torch

from trainer.objectives._clipping import with_clip_ratios
from trainer.objectives._tokens import Tokens

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
NOTHING = torch.zeros(3, 4)
TOKENS = Tokens(MASK, MASK, NOTHING, NOTHING, NOTHING, NOTHING)


def test_shares_of_tokens_leave_padding_and_filtered_answers_out() -> None:
    low = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    high = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
    found = with_clip_ratios(NOTHING, low, high, TOKENS)
    assert found.means["clip_ratio/low_mean"] == (2.0, 6.0)
    assert found.means["clip_ratio/high_mean"] == (3.0, 6.0)
    assert found.means["clip_ratio/region_mean"] == (5.0, 6.0)
    assert found.minima == {"clip_ratio/low_min": 0.25}
    assert found.maxima == {"clip_ratio/high_max": 0.5}


def test_shares_of_answers_count_answers_with_a_token() -> None:
    low, high = torch.tensor([[True], [True], [True]]), torch.tensor([[False], [True], [True]])
    found = with_clip_ratios(NOTHING[:, :1], low, high, TOKENS)
    assert found.means["clip_ratio/low_mean"] == (2.0, 2.0)
    assert found.means["clip_ratio/high_mean"] == (1.0, 2.0)
    assert (found.minima["clip_ratio/low_min"], found.maxima["clip_ratio/high_max"]) == (1.0, 1.0)


def test_without_a_token_there_is_no_extremum() -> None:
    none = torch.zeros_like(MASK)
    tokens = Tokens(none, none, NOTHING, NOTHING, NOTHING, NOTHING)
    found = with_clip_ratios(NOTHING, MASK, MASK, tokens)
    assert found.minima == {} and found.maxima == {}
    assert found.means["clip_ratio/low_mean"] == (0.0, 0.0)
