"""LD-DPO: DPO in which what one answer says beyond the other's length counts less (arXiv 2409.06411)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class LDDPO(ReferenceObjective):
    """Learn from pairs without rewarding mere length."""

    type: Literal["ld-dpo"] = "ld-dpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (s(chosen) - s(rejected))), s = sum_t w_t (log pi - log pi_ref), "
        "w_t = 1 up to the shorter answer's length, alpha beyond it"
    )

    alpha: float = Field(0.5, ge=0, lt=1, json_schema_extra={"basic": True})
    """Weight of the tokens beyond the shorter answer's length; 1 would be DPO, 0 ignores them.
    Healthy: 0.3 to 0.7. Source: arXiv 2409.06411."""

    def score_weights(
        self, mask_BT: "torch.Tensor", other_mask_BT: "torch.Tensor"
    ) -> "torch.Tensor":
        """1 for the shared length, alpha for the tail."""
        place_BT = mask_BT.cumsum(-1)
        shared_BT = place_BT <= other_mask_BT.sum(-1, keepdim=True)
        return mask_BT.float() * (shared_BT.float() * (1 - self.alpha) + self.alpha)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)
