"""REINFORCE++: discounted token returns, whitened over the whole batch (arXiv 2501.03262)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import standardised, token_rewards
from trainer.registry import Advantage, Need

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class ReinforcePlusPlus(Advantage):
    """What each token still earns, as a z-score over all answer tokens of the batch.

    Neither a critic nor a group: one answer per prompt will do. The reward comes with the last token; a
    KL penalty in the reward is charged to the token that caused it. Groups play no part, so a lone
    answer and an all-equal group are judged against the rest of the batch; a batch of equal returns gets 0.
    """

    type: Literal["reinforce-plus-plus"] = "reinforce-plus-plus"
    needs: ClassVar[frozenset[Need]] = frozenset()
    formula: ClassVar[str] = (
        "G_t = rho_t + gamma G_{t+1}, rho_t = r [t last] - penalty_t; A_t = (G_t - mean_batch) / (std_batch + eps)"
    )

    gamma: float = Field(1.0, gt=0, le=1, json_schema_extra={"basic": True})
    """Discount per answer token; below 1, early tokens earn less. Healthy: 1. Source: arXiv 2501.03262."""
    eps: float = Field(1e-4, gt=0)
    """Added to the deviation. Healthy: 1e-4; much smaller turns a reward's jitter into an advantage of 1."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N, T); unscorable answers get 0 and do not move the mean and the deviation."""
        import torch

        mask_NT = outcomes.mask_NT
        reward_NT = token_rewards(outcomes)
        return_NT = torch.zeros_like(reward_NT)
        ahead_N = torch.zeros_like(outcomes.reward_N, dtype=torch.float64)
        for place in reversed(range(reward_NT.shape[1])):
            # A masked-out token takes no time: answer tokens around it are neighbours.
            earned_N = reward_NT[:, place] + self.gamma * ahead_N
            ahead_N = torch.where(mask_NT[:, place], earned_N, ahead_N)
            return_NT[:, place] = ahead_N
        counted_NT = mask_NT & outcomes.reward_N.isfinite()[:, None]
        return standardised(return_NT, counted_NT, self.eps).to(outcomes.reward_N.dtype)
