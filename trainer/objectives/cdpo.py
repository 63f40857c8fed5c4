"""cDPO: DPO that expects a share of the labels to be swapped (E. Mitchell, 2023)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class CDPO(ReferenceObjective):
    """Learn from pairs of which some may be labelled the wrong way round."""

    type: Literal["cdpo"] = "cdpo"
    formula: ClassVar[str] = (
        "L = -(1 - label_smoothing) log sigmoid(beta m) - label_smoothing log sigmoid(-beta m), "
        "m = log ratio(chosen) - log ratio(rejected)"
    )

    label_smoothing: float = Field(0.1, gt=0, lt=0.5, json_schema_extra={"basic": True})
    """Share of pairs that are labelled the wrong way round. The margin then stops growing where the
    policy is as sure as the labels. Healthy: 0.05 to 0.3. Source: E. Mitchell, A note on DPO with noisy
    preferences, 2023."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Cross entropy (B,) against the label softened to 1 - label_smoothing."""
        from torch.nn.functional import logsigmoid

        reward_B = self.beta * pair.margin_B
        right_B, swapped_B = -logsigmoid(reward_B), -logsigmoid(-reward_B)
        return (1 - self.label_smoothing) * right_B + self.label_smoothing * swapped_B
