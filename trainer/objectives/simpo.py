"""SimPO: mean log-probabilities as rewards, a target margin and no reference (arXiv 2405.14734, equation 6)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import MixesNLL, PairScores, length_averaged

if TYPE_CHECKING:
    import torch


class SimPO(MixesNLL):
    """Learn from pairs without a reference model."""

    type: Literal["simpo"] = "simpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (mean_t log pi(chosen) - mean_t log pi(rejected)) - gamma) "
        "- sft_weight mean_t log pi(chosen)"
    )

    beta: float = Field(2.0, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """Reward per nat of mean log-probability. Healthy: 2 to 10. Source: arXiv 2405.14734, section 3."""
    gamma: float = Field(1.0, ge=0, le=100, json_schema_extra={"basic": True})
    """Reward by which the chosen answer should lead. Healthy: 0.2 to 0.8 of beta. Source: arXiv
    2405.14734, equation 6."""

    def score_weights(
        self, mask_BT: "torch.Tensor", other_mask_BT: "torch.Tensor"
    ) -> "torch.Tensor":
        """1 / length."""
        return length_averaged(mask_BT)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,) of the margin less its target."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B - self.gamma)
