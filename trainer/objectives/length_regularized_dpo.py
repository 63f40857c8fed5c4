"""Length-regularised DPO: a longer chosen answer must lead by less (arXiv 2403.19159; iLR-DPO, 2406.11817)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class LengthRegularizedDPO(ReferenceObjective):
    """Learn from pairs whose chosen answers are longer, without learning to be long."""

    type: Literal["length-regularized-dpo"] = "length-regularized-dpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (log ratio(chosen) - log ratio(rejected)) "
        "+ alpha (length(chosen) - length(rejected)))"
    )

    alpha: float = Field(0.02, ge=0, le=10, json_schema_extra={"basic": True})
    """Reward that the pair is taken to have already per token by which the chosen answer is longer; 0 is
    DPO. Healthy: beta / 10 to beta. Source: arXiv 2403.19159, and 2406.11817 for rounds of new pairs."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,) of the margin and the difference in length."""
        from torch.nn.functional import logsigmoid

        longer_B = pair.chosen_tokens_B - pair.rejected_tokens_B
        return -logsigmoid(self.beta * pair.margin_B + self.alpha * longer_B)
