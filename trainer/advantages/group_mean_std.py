"""Group mean and standard deviation: GRPO's advantage and its two rescalings (arXiv 2402.03300, 4.1.2)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import grouped
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class GroupMeanStd(Advantage):
    """Reward minus the group's mean, over the standard deviation of the group, of the batch, or over 1."""

    type: Literal["group-mean-std"] = "group-mean-std"
    formula: ClassVar[str] = "A_i = (r_i - mean_g) / (std_g + eps)"

    scale: Literal["group", "batch", "none"] = Field("group", json_schema_extra={"basic": True})
    """What the centred reward is divided by: the group's deviation (GRPO), the batch's (Lite PPO), or
    nothing (Dr. GRPO: removes the bias towards groups of little spread).
    Source: arXiv 2402.03300 4.1.2; 2508.08221; 2503.20783."""
    eps: float = Field(1e-4, gt=0)
    """Added to the deviation. Healthy: 1e-4; much smaller turns a reward's jitter into an advantage of 1."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable (NaN) answers, lone answers and all-equal groups get 0.

        Deviations divide by n - 1, as the published code does.
        """
        groups = grouped(outcomes.total_N, outcomes.group_N)
        advantage_N = groups.centred_N
        if self.scale == "group":
            advantage_N = advantage_N / (groups.std_G[groups.group_N] + self.eps)
        elif self.scale == "batch":
            scores = groups.score_N[groups.scorable_N]
            deviation = scores.std() if len(scores) > 1 else 0.0
            advantage_N = advantage_N / (deviation + self.eps)
        return advantage_N.to(outcomes.reward_N.dtype)
