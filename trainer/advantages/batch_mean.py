"""Batch mean: REINFORCE with the batch's mean reward as baseline (Williams 1992, section 4)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import centred, standardised
from trainer.registry import Advantage, Need

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class BatchMean(Advantage):
    """Reward minus the mean reward of the batch: the plainest baseline, for one answer per prompt.

    Groups play no part: a lone answer and an all-equal group are judged against the rest of the batch, so
    that easy prompts are praised and hard ones blamed as a whole. A batch of equal rewards gets 0.
    """

    type: Literal["batch-mean"] = "batch-mean"
    needs: ClassVar[frozenset[Need]] = frozenset()
    formula: ClassVar[str] = "A_i = r_i - mean_batch; with scale = batch over (std_batch + eps)"

    scale: Literal["none", "batch"] = Field("none", json_schema_extra={"basic": True})
    """What the centred reward is divided by: nothing, or the batch's deviation, which takes the reward's
    size out of the learning rate. Healthy: batch, where rewards are not in [0, 1]."""
    eps: float = Field(1e-4, gt=0)
    """Added to the deviation. Healthy: 1e-4; much smaller turns a reward's jitter into an advantage of 1."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable answers get 0 and do not move the baseline."""
        reward_N = outcomes.total_N
        scorable_N = reward_N.isfinite()
        if self.scale == "batch":
            advantage_N = standardised(reward_N.double(), scorable_N, self.eps)
        else:
            advantage_N = centred(reward_N.double(), scorable_N)
        return advantage_N.to(reward_N.dtype)
