"""RPO: DPO plus the chosen answers' NLL per token, each answer counted once (arXiv 2404.19733, equation 1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective, length_averaged

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Pairs


class RPO(ReferenceObjective):
    """Learn from pairs of reasoning steps while keeping the right ones likely."""

    type: Literal["rpo"] = "rpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (log ratio(chosen) - log ratio(rejected))) "
        "- sft_weight log pi(chosen) / length(chosen)"
    )

    sft_weight: float = Field(1.0, gt=0, le=100, json_schema_extra={"basic": True})
    """Weight of the NLL term; without it use `dpo`. Healthy: 0.25 to 2. Source: arXiv 2404.19733,
    equation 1 (its alpha, 1 in the paper)."""

    def token_weights(self, batch: "Pairs") -> "torch.Tensor":
        """Weights (N, T): 1 / length of each chosen answer, averaged over pairs; they sum to 1.

        Here it differs from `dpo` with `sft_weight`, whose NLL is a mean over all tokens.
        """
        return length_averaged(batch.chosen_mask_BT) / len(batch.chosen_mask_BT)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)
