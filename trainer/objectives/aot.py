"""AOT: make the distribution of rewards better, not every pair: sort, then compare (arXiv 2406.05882)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class AOT(ReferenceObjective):
    """Learn from preferences by optimal transport between sorted log ratios of the whole batch."""

    type: Literal["aot"] = "aot"
    couples: ClassVar[bool] = True
    formula: ClassVar[str] = (
        "L_i = -log sigmoid(beta d_i) with d_i the i-th smallest of one list less the i-th smallest of another: "
        "paired: the policy's and the reference's log-odds of chosen over rejected; "
        "unpaired: the log ratios of the chosen and of the rejected answers"
    )

    paired: bool = True
    """Whether the two answers of a prompt are compared before sorting; off, all chosen answers are held
    against all rejected ones. Source: arXiv 2406.05882, paired and
    unpaired alignment."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of labels taken to be swapped. Healthy: 0 to 0.3. Source: TRL's aot."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Loss of each quantile (B,); the pairs must be those of the whole optimizer batch."""
        from torch.nn.functional import logsigmoid

        if self.paired:
            upper_B = pair.chosen_B - pair.rejected_B
            lower_B = pair.ref_chosen_B - pair.ref_rejected_B
        else:
            upper_B, lower_B = pair.chosen_gain_B, pair.rejected_gain_B
        reward_B = self.beta * (upper_B.sort().values - lower_B.sort().values)
        right_B, swapped_B = -logsigmoid(reward_B), -logsigmoid(-reward_B)
        return (1 - self.label_smoothing) * right_B + self.label_smoothing * swapped_B
