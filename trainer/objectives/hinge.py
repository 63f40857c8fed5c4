"""Hinge: push the two answers' rewards apart up to a margin of 1 (SLiC, 2305.10425; RSO, arXiv 2309.06657)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class Hinge(ReferenceObjective):
    """Learn from pairs until the chosen answer leads by a margin, then leave them alone."""

    type: Literal["hinge"] = "hinge"
    formula: ClassVar[str] = "L = max(0, 1 - beta m), m = log ratio(chosen) - log ratio(rejected)"

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """One over the margin in nats beyond which a pair has no gradient. Healthy: 0.05 to 0.5.
    Source: arXiv 2309.06657, hinge-norm (its gamma)."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """How far the reward margin is below 1 (B,)."""
        return (1 - self.beta * pair.margin_B).relu()
