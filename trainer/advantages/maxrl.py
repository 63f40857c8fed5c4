"""MaxRL: dividing by the group's mean climbs the likelihood of success (arXiv 2602.02710)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.advantages._groups import grouped, penalties
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class MaxRL(Advantage):
    """Reward minus the group's mean, over that mean: rare successes count the more.

    For rewards that read as a success rate: 1 and 0, or between. With n answers of which some succeed,
    its gradient is that of log p up to order n - 1, where plain RL climbs p. A group whose mean reward is
    0 or less has no likelihood and gets 0, so penalties belong elsewhere; of a KL penalty in the reward,
    which is no success, the group-centred sum is subtracted unscaled.
    """

    type: Literal["maxrl"] = "maxrl"
    formula: ClassVar[str] = "A_i = (r_i - mean_g) / mean_g; 0 where mean_g <= 0"

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable answers, lone answers and all-equal groups get 0."""
        import torch

        groups = grouped(outcomes.reward_N, outcomes.group_N)
        mean_N = groups.mean_G[groups.group_N]
        success_N = mean_N > 0
        advantage_N = torch.where(
            success_N, groups.centred_N / torch.where(success_N, mean_N, 1.0), 0.0
        )
        penalty_N = penalties(outcomes)
        if penalty_N is not None:
            advantage_N = advantage_N - grouped(penalty_N, outcomes.group_N).centred_N
        return advantage_N.to(outcomes.reward_N.dtype)
