"""EXO: reverse KL between the policy's and the labels' preference of the pair (arXiv 2402.00856, eq. 16)."""

from math import log, log1p
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class EXO(ReferenceObjective):
    """Learn from pairs by matching probabilities in the mode-seeking direction."""

    type: Literal["exo"] = "exo"
    formula: ClassVar[str] = (
        "L = p log(p / (1 - label_smoothing)) + (1 - p) log((1 - p) / label_smoothing), "
        "p = sigmoid(beta (log ratio(chosen) - log ratio(rejected)))"
    )

    label_smoothing: float = Field(1e-3, gt=0, lt=0.5, json_schema_extra={"basic": True})
    """Probability that the labels give to the rejected answer; at 0 the divergence is infinite.
    Healthy: 0.001 to 0.1. Source: arXiv 2402.00856, equation 16 (its epsilon)."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """KL(policy's preference || label's preference) of each pair (B,), nats."""
        from torch.nn.functional import logsigmoid

        reward_B = self.beta * pair.margin_B
        log_chosen_B, log_rejected_B = logsigmoid(reward_B), logsigmoid(-reward_B)
        chosen_B = log_chosen_B.exp() * (log_chosen_B - log1p(-self.label_smoothing))
        return chosen_B + log_rejected_B.exp() * (log_rejected_B - log(self.label_smoothing))
