"""DiscoPOP: a blend of logistic and exponential loss that a language model found (arXiv 2406.08414, eq. 5)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class DiscoPOP(ReferenceObjective):
    """Learn from pairs with a loss that is not convex; near a tie its slope points the wrong way."""

    type: Literal["discopop"] = "discopop"
    formula: ClassVar[str] = (
        "L = (1 - g) (-log sigmoid(u)) + g exp(-u), g = sigmoid(u / tau), "
        "u = beta (log ratio(chosen) - log ratio(rejected))"
    )

    tau: float = Field(0.05, gt=0, le=1, json_schema_extra={"basic": True})
    """Width of the blend around a tie, in reward. At the paper's 0.05 the loss has a local minimum at
    -0.119 and a maximum at 0.072: pairs that start tied first lose margin, and only what noise carries
    beyond the maximum gains. At 1 it falls everywhere. Healthy: 0.05 (the paper); 0.5 to 1 where the
    policy starts as its reference. Source: arXiv 2406.08414, equation 5."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The blended loss (B,)."""
        from torch.nn.functional import logsigmoid

        reward_B = self.beta * pair.margin_B
        log_gate_B = logsigmoid(reward_B / self.tau)
        logistic_B = -logsigmoid(reward_B) * (1 - log_gate_B.exp())
        # As one exponential: exp(-u) alone overflows where the gate is 0.
        return logistic_B + (log_gate_B - reward_B).exp()
