"""CPO: DPO with a uniform reference, held in place by the chosen answers' NLL (arXiv 2401.08417, eq. 3)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import MixesNLL, PairScores

if TYPE_CHECKING:
    import torch


class CPO(MixesNLL):
    """Learn from pairs without a reference model, imitating the chosen answers at the same time."""

    type: Literal["cpo"] = "cpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (log pi(chosen) - log pi(rejected))) - sft_weight mean_t log pi(chosen)"
    )

    sft_weight: float = Field(1.0, ge=0, le=100, json_schema_extra={"basic": True})
    """Weight of the chosen answers' NLL, a mean over tokens; nothing else keeps their probability up.
    Healthy: 0.5 to 1. Source: arXiv 2401.08417 (weight 1)."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)
