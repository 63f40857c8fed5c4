"""SPPO: self-play step of a preference game, with hard labels (arXiv 2405.00675, equation 4.7)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class SPPO(ReferenceObjective):
    """Draw each answer's log ratio to plus or minus half of 1 / beta."""

    type: Literal["sppo"] = "sppo"
    formula: ClassVar[str] = (
        "L = (log ratio(chosen) - 1 / (2 beta))^2 + (log ratio(rejected) + 1 / (2 beta))^2"
    )

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """One over the paper's eta: the targets are plus and minus 1 / (2 beta) nats. Healthy: 0.001 (the
    paper) to 0.1; small ones need clipped gradients. Source: arXiv 2405.00675, equation 4.7."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Squared errors of both log ratios (B,); the win probability of the chosen answer is taken as 1."""
        target = 1 / (2 * self.beta)
        return (pair.chosen_gain_B - target) ** 2 + (pair.rejected_gain_B + target) ** 2
