"""Arithmetic that the advantages share: groups by id, scores that count, whitening over tokens.

Legend: N answers, T answer tokens, G groups, K rewards. Everything is float64; the caller rounds its
result once. A score that is NaN or infinite does not count: it enters no sum, no extremum, no n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


@dataclass(frozen=True)
class Groups:
    """The scores of a batch (N,), sorted into groups by id; the order of rows and of ids is free."""

    score_N: torch.Tensor
    """float64; 0 where it does not count."""
    scorable_N: torch.Tensor
    """bool"""
    group_N: torch.Tensor
    """Place of the answer's group, from 0."""
    count_G: torch.Tensor
    """Scorable answers of each group, float64."""
    silent_G: torch.Tensor
    """bool: nothing to compare, as fewer than two answers are scorable or all scores are equal."""

    def total(self, amount_N: torch.Tensor) -> torch.Tensor:
        """Sum over each group (G,)."""
        return amount_N.new_zeros(len(self.count_G)).index_add_(0, self.group_N, amount_N)

    @property
    def mean_G(self) -> torch.Tensor:
        """Mean score of each group; 0 where nothing is scorable."""
        return self.total(self.score_N) / self.count_G.clamp(min=1)

    @property
    def centred_N(self) -> torch.Tensor:
        """Score minus the group's mean; exactly 0 in silent groups and where not scorable."""
        return self.heard(self.score_N - self.mean_G[self.group_N])

    @property
    def std_G(self) -> torch.Tensor:
        """Deviation of each group, divided by n - 1 as the published code does; 0 in silent groups."""
        return (self.total(self.centred_N**2) / (self.count_G - 1).clamp(min=1)).sqrt()

    @property
    def heard_N(self) -> torch.Tensor:
        """bool: scorable, and in a group that has something to compare."""
        return self.scorable_N & ~self.silent_G[self.group_N]

    def heard(self, amount_N: torch.Tensor) -> torch.Tensor:
        """`amount_N` where there is something to compare, else exactly 0: rounding leaves no trace."""
        return amount_N.masked_fill(~self.heard_N, 0.0)


def grouped(score_N: torch.Tensor, id_N: torch.Tensor) -> Groups:
    """Sort scores (N,) into groups by their ids (N,)."""
    import torch

    scorable_N = score_N.isfinite()
    value_N = score_N.double().masked_fill(~scorable_N, 0.0)
    ids, group_N = torch.unique(id_N, return_inverse=True)
    empty_G = value_N.new_zeros(len(ids))
    count_G = empty_G.index_add(0, group_N, scorable_N.double())
    infinity = float("inf")
    top_G = (empty_G - infinity).scatter_reduce(
        0, group_N, value_N.masked_fill(~scorable_N, -infinity), "amax"
    )
    bottom_G = (empty_G + infinity).scatter_reduce(
        0, group_N, value_N.masked_fill(~scorable_N, infinity), "amin"
    )
    # Extrema, not the deviation: they compare without rounding.
    silent_G = (count_G < 2) | (top_G == bottom_G)
    return Groups(value_N, scorable_N, group_N, count_G, silent_G)


def centred(amount: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """x - mean over the cells that count, of any shape; 0 elsewhere.

    Fewer than two cells, or equal ones, give exactly 0.
    """
    import torch

    cells = amount[counted]
    if len(cells) < 2 or cells.min() == cells.max():
        return torch.zeros_like(amount)
    return (amount - cells.mean()).masked_fill(~counted, 0.0)


def standardised(amount: torch.Tensor, counted: torch.Tensor, eps: float) -> torch.Tensor:
    """(x - mean) / (std + eps) over the cells that count; the deviation divides by n - 1. See `centred`."""
    difference = centred(amount, counted)
    cells = difference[counted]
    return difference / (cells.std() + eps) if len(cells) > 1 else difference


def penalties(outcomes: Outcomes) -> torch.Tensor | None:
    """KL penalty of each answer (N,), float64; NaN where the answer is unscorable; None without penalties."""
    if outcomes.penalty_NT is None:
        return None
    penalty_N = outcomes.penalty_NT.double().masked_fill(~outcomes.mask_NT, 0.0).sum(-1)
    return penalty_N.masked_fill(~outcomes.reward_N.isfinite(), float("nan"))


def token_rewards(outcomes: Outcomes) -> torch.Tensor:
    """Reward of each token (N, T), float64: the answer's at its last token, less each token's KL penalty.

    Undefined where masked out and in the rows of unscorable answers.
    """
    import torch

    mask_NT = outcomes.mask_NT
    place_T = torch.arange(mask_NT.shape[1], device=mask_NT.device)
    last_N = torch.where(mask_NT, place_T, -1).amax(-1)
    last_NT = place_T == last_N[:, None]
    reward_NT = torch.where(last_NT, outcomes.reward_N.double()[:, None], 0.0)
    return reward_NT if outcomes.penalty_NT is None else reward_NT - outcomes.penalty_NT.double()
