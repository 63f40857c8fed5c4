"""APO-zero: raise chosen answers and lower rejected ones, each by itself (arXiv 2408.06266, equation 7)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class APOZero(ReferenceObjective):
    """Learn from pairs whose chosen answers are better than what the model says."""

    type: Literal["apo-zero"] = "apo-zero"
    formula: ClassVar[str] = "L = 1 - sigmoid(r_w) + sigmoid(r_l), r = beta (log pi - log pi_ref)"

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The loss (B,) in [0, 2]; the paper leaves out the constant 1."""
        chosen_B, rejected_B = self.beta * pair.chosen_gain_B, self.beta * pair.rejected_gain_B
        return 1 - chosen_B.sigmoid() + rejected_B.sigmoid()
