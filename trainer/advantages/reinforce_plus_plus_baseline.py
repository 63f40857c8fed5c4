"""REINFORCE++ with baseline: centred in the group, whitened over the batch's tokens (arXiv 2501.03262)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import grouped, standardised
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class ReinforcePlusPlusBaseline(Advantage):
    """Reward minus the group's mean, as a z-score over all answer tokens of the batch."""

    type: Literal["reinforce-plus-plus-baseline"] = "reinforce-plus-plus-baseline"
    formula: ClassVar[str] = (
        "C_i = r_i - mean_g; A_i = (C_i - mean_tokens) / (std_tokens + eps), each answer counted once per token"
    )

    eps: float = Field(1e-4, gt=0)
    """Added to the deviation. Healthy: 1e-4; much smaller turns a reward's jitter into an advantage of 1."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N, T), the same along an answer; unscorable and lone answers and all-equal groups get 0.

        All-equal groups count in the mean and the deviation, as published; lone answers do not.
        """
        groups = grouped(outcomes.total_N, outcomes.group_N)
        compared_N = groups.scorable_N & (groups.count_G[groups.group_N] > 1)
        centred_NT = groups.centred_N[:, None].expand(outcomes.mask_NT.shape)
        counted_NT = outcomes.mask_NT & compared_N[:, None]
        advantage_NT = standardised(centred_NT, counted_NT, self.eps)
        # Long answers pull the token mean off 0: it must not become the advantage of a group that says nothing.
        advantage_NT = advantage_NT.masked_fill(~groups.heard_N[:, None], 0.0)
        return advantage_NT.to(outcomes.reward_N.dtype)
