"""DiscoPOP: a blend of logistic and exponential loss that a language model found (arXiv 2406.08414, eq. 5)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class DiscoPOP(ReferenceObjective):
    """Learn from pairs with a loss that is not convex: pairs near a tie are pushed hardest."""

    type: Literal["discopop"] = "discopop"
    formula: ClassVar[str] = (
        "L = (1 - g) (-log sigmoid(u)) + g exp(-u), g = sigmoid(u / tau), "
        "u = beta (log ratio(chosen) - log ratio(rejected))"
    )

    tau: float = Field(0.05, gt=0, lt=1, json_schema_extra={"basic": True})
    """Width of the blend around a tie, in reward; at 1 and above the loss of a wrong pair would not stay
    bounded by its logistic part. Healthy: 0.05. Source: arXiv 2406.08414, equation 5."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The blended loss (B,)."""
        from torch.nn.functional import logsigmoid

        reward_B = self.beta * pair.margin_B
        log_gate_B = logsigmoid(reward_B / self.tau)
        logistic_B = -logsigmoid(reward_B) * (1 - log_gate_B.exp())
        # As one exponential: exp(-u) alone overflows where the gate is 0.
        return logistic_B + (log_gate_B - reward_B).exp()
