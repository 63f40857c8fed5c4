"""IPO: regress the margin onto a fixed target, where sure labels drive DPO on (arXiv 2310.12036, eq. 17)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective, length_averaged

if TYPE_CHECKING:
    import torch


class IPO(ReferenceObjective):
    """Learn from pairs with a squared loss that cannot run away from the reference."""

    type: Literal["ipo"] = "ipo"
    formula: ClassVar[str] = (
        "L = (m - 1 / (2 beta))^2, m = mean_t log ratio(chosen) - mean_t log ratio(rejected)"
    )

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """The paper's tau: the margin per token is drawn to 1 / (2 beta) nats. Healthy: 0.1 to 1.
    Source: arXiv 2310.12036, equation 17."""

    def score_weights(
        self, mask_BT: "torch.Tensor", other_mask_BT: "torch.Tensor"
    ) -> "torch.Tensor":
        """1 / length: the paper's authors use means over tokens, as TRL does; sums grow with length."""
        return length_averaged(mask_BT)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Squared distance (B,) of the margin from its target."""
        return (pair.margin_B - 1 / (2 * self.beta)) ** 2
