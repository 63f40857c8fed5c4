"""APO-down: lower both answers, the rejected one more (arXiv 2408.06266, equation 8)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class APODown(ReferenceObjective):
    """Learn from pairs whose chosen answers are worse than what the model says."""

    type: Literal["apo-down"] = "apo-down"
    formula: ClassVar[str] = (
        "L = sigmoid(r_w) + 1 - sigmoid(r_w - r_l), r = beta (log pi - log pi_ref)"
    )

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The loss (B,) in [0, 2]; the paper leaves out the constant 1."""
        chosen_B, margin_B = self.beta * pair.chosen_gain_B, self.beta * pair.margin_B
        return chosen_B.sigmoid() + 1 - margin_B.sigmoid()
