"""RLOO: the mean reward of the group's other answers is the baseline (arXiv 2402.14740)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import grouped, standardised
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class RLOO(Advantage):
    """Reward minus the mean reward of the other answers to the same prompt.

    The baseline does not depend on the answer it is subtracted from: unlike the group's own mean, which
    shrinks every advantage by (n - 1) / n, it leaves the policy gradient unbiased.
    """

    type: Literal["rloo"] = "rloo"
    formula: ClassVar[str] = "A_i = r_i - (1 / (n_g - 1)) sum_{j != i} r_j"

    normalise: bool = Field(False, json_schema_extra={"basic": True})
    """Divide by the deviation of the batch's advantages, after centring. Healthy: off, for the unbiased
    gradient. Source: TRL's `normalize_advantages`."""
    eps: float = Field(1e-4, gt=0)
    """Added to that deviation. Healthy: 1e-4."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable answers, lone answers and all-equal groups get 0."""
        groups = grouped(outcomes.total_N, outcomes.group_N)
        count_N = groups.count_G[groups.group_N]
        # r - (n mean - r) / (n - 1) = (r - mean) n / (n - 1)
        advantage_N = groups.centred_N * count_N / (count_N - 1).clamp(min=1)
        if self.normalise:
            advantage_N = standardised(advantage_N, groups.scorable_N & (count_N > 1), self.eps)
        return groups.heard(advantage_N).to(outcomes.reward_N.dtype)
