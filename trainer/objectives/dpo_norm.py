"""Length-normalised DPO: DPO on mean log ratios per token (Tülu 3, arXiv 2411.15124, section 5)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective, length_averaged

if TYPE_CHECKING:
    import torch


class DPONorm(ReferenceObjective):
    """Learn from pairs without a pull towards longer or shorter answers."""

    type: Literal["dpo-norm"] = "dpo-norm"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (mean_t log ratio(chosen) - mean_t log ratio(rejected)))"
    )

    beta: float = Field(5.0, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """Reward per nat of mean log ratio; larger than DPO's, since means are smaller than sums.
    Healthy: 2 to 10. Source: arXiv 2411.15124, section 5."""

    def score_weights(
        self, mask_BT: "torch.Tensor", other_mask_BT: "torch.Tensor"
    ) -> "torch.Tensor":
        """1 / length."""
        return length_averaged(mask_BT)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)
