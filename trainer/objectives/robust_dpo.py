"""Robust DPO: DPO whose expectation is right under swapped labels (arXiv 2403.00409)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class RobustDPO(ReferenceObjective):
    """Learn from noisy pairs with a loss that is unbiased for the clean ones."""

    type: Literal["robust-dpo"] = "robust-dpo"
    formula: ClassVar[str] = (
        "L = (-(1 - label_smoothing) log sigmoid(beta m) + label_smoothing log sigmoid(-beta m)) "
        "/ (1 - 2 label_smoothing), m = log ratio(chosen) - log ratio(rejected)"
    )

    label_smoothing: float = Field(0.1, gt=0, lt=0.5, json_schema_extra={"basic": True})
    """Share of pairs that are labelled the wrong way round; at 0.5 they would say nothing.
    Healthy: the share you measured, 0.05 to 0.3. Source: arXiv 2403.00409."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The loss (B,) whose mean over swaps is the sigmoid loss of the clean label; may be negative."""
        from torch.nn.functional import logsigmoid

        reward_B, noise = self.beta * pair.margin_B, self.label_smoothing
        right_B, swapped_B = -logsigmoid(reward_B), -logsigmoid(-reward_B)
        return ((1 - noise) * right_B - noise * swapped_B) / (1 - 2 * noise)
