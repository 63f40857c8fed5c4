"""Group mean and standard deviation: GRPO's advantage and its two rescalings (arXiv 2402.03300, 4.1.2)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

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
        import torch

        rewards_N, groups_N = outcomes.total_N, outcomes.group_N
        scorable_N = ~rewards_N.isnan()
        value_N = torch.where(scorable_N, rewards_N, 0.0).double()
        _, group_N = torch.unique(groups_N, return_inverse=True)
        groups = int(group_N.max()) + 1 if len(group_N) else 0

        def total(per_answer_N: "torch.Tensor") -> "torch.Tensor":
            return torch.zeros(groups, dtype=torch.float64).index_add_(0, group_N, per_answer_N)

        count_G = total(scorable_N.double())
        mean_G = total(value_N) / count_G.clamp(min=1)
        centred_N = torch.where(scorable_N, value_N - mean_G[group_N], 0.0)
        std_G = (total(centred_N**2) / (count_G - 1).clamp(min=1)).sqrt()
        if self.scale == "none":
            advantage_N = centred_N
        elif self.scale == "batch":
            scored = value_N[scorable_N]
            deviation = scored.std() if len(scored) > 1 else torch.tensor(0.0)
            advantage_N = centred_N / (deviation + self.eps)
        else:
            advantage_N = centred_N / (std_G[group_N] + self.eps)
        # Rounding leaves a mean a hair off: an all-equal group must be exactly silent.
        silent_G = (count_G < 2) | (std_G <= 1e-12 * (1 + mean_G.abs()))
        return torch.where(silent_G[group_N], 0.0, advantage_N).to(rewards_N.dtype)
