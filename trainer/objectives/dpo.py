"""DPO: prefer the chosen answer over the rejected one, relative to a reference (arXiv 2305.18290, eq. 7)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class DPO(ReferenceObjective):
    """Learn from preference pairs without a reward model."""

    type: Literal["dpo"] = "dpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta ((log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected))) "
        "- sft_weight mean_t log pi(chosen)"
    )

    beta: float = Field(0.1, gt=0, le=10, json_schema_extra={"basic": True, "live": True})
    """How strongly to stay near the reference; smaller moves further. Healthy: 0.01 to 0.5.
    Source: arXiv 2305.18290, equation 7."""
    sft_weight: float = Field(0.0, ge=0, le=100, json_schema_extra={"basic": True})
    """Weight of the chosen answers' mean token NLL: keeps their probability from falling. Healthy: 0 for
    plain DPO, 0.5 to 1 where answers must stay likely. Source: RPO, arXiv 2405.16436."""

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)
