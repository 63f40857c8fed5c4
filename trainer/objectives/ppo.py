"""PPO: a clipped ratio with advantages from a critic that learns beside (arXiv 1707.06347, eq. 7 and 9)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._clipping import ClippedObjective
from trainer.objectives._policy import BASIC
from trainer.objectives._tokens import PerToken, Tokens
from trainer.registry import Loss

if TYPE_CHECKING:
    from trainer.engine.batches import Rollouts


class PPO(ClippedObjective):
    """Learn from single answers: a critic says what was to be expected at each token."""

    type: Literal["ppo"] = "ppo"
    needs: ClassVar = ClippedObjective.needs | {"critic"}
    default_advantage: ClassVar[str] = "gae"
    charts: ClassVar[tuple[str, ...]] = (*ClippedObjective.charts, "critic/vf_loss")
    formula: ClassVar[str] = (
        "L = -sum_t w_t min(rho_t A_t, clip(rho_t, 1 - clip_low, 1 + clip_high) A_t) + vf_coef sum_t w_t "
        "max((V_t - R_t)^2, (V_old + clip(V_t - V_old, -value_clip, value_clip) - R_t)^2) / 2"
    )

    clip_high: float = Field(0.2, gt=0, lt=10, json_schema_extra=BASIC)
    """How far a ratio may rise before its gradient stops. Healthy: 0.2.
    Source: arXiv 1707.06347, equation 7 (epsilon)."""
    vf_coef: float = Field(0.5, gt=0, le=100, json_schema_extra=BASIC)
    """Weight of the critic's loss. Healthy: 0.1 to 1. Source: arXiv 1707.06347, equation 9 (c1)."""
    value_clip: float = Field(0.2, ge=0, le=1000)
    """How far a value may move from the one at sampling before its gradient stops, in units of return; 0
    turns the clip off. Healthy: 0.2 for returns near 1. Source: arXiv 2005.12729, section 3 (TRL:
    cliprange_value)."""
    critic_lr: float = Field(0.0, ge=0, le=10)
    """Peak learning rate of the critic's weights; 0 takes the policy's. Healthy: 1e-5 above 1 B parameters,
    up to 10 times the policy's rate. Source: verl (critic.optim.lr)."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """The clipped surrogate of each token's ratio."""
        return self.surrogate(tokens.log_ratio_BT.exp(), tokens.advantage_BT, tokens)

    def loss(self, batch: "Rollouts") -> Loss:
        """The policy's terms and the critic's, whose tokens carry the same weights."""
        import torch

        found = super().loss(batch)
        assert batch.value_BT is not None and batch.return_BT is not None
        mask_BT = self.trained_mask(batch)
        error_BT = torch.where(mask_BT, batch.value_BT - batch.return_BT, 0.0)
        worst_BT = error_BT**2
        means = {"policy_loss": (float(found.value.detach()), self.share(batch)), **found.means}
        tokens = float(mask_BT.sum())
        if self.value_clip > 0:
            assert batch.old_value_BT is not None
            moved_BT = torch.where(mask_BT, batch.value_BT - batch.old_value_BT, 0.0)
            near_BT = moved_BT.clamp(-self.value_clip, self.value_clip)
            clipped_BT = (error_BT - moved_BT + near_BT) ** 2
            means["critic/vf_clipfrac"] = (float((clipped_BT > worst_BT).sum()), tokens)
            worst_BT = torch.maximum(worst_BT, clipped_BT)
        means["critic/vf_loss"] = (float(worst_BT.detach().sum()) / 2, tokens)
        value = found.value + self.vf_coef / 2 * (self.all_weights(batch) * worst_BT).sum()
        return Loss(value, means, found.maxima, found.minima)

    @property
    def silent_without_advantage(self) -> bool:
        """The critic learns from every answer."""
        return False
