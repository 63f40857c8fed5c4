"""DPPO: drop a token whose probability, not its ratio, has moved too far (arXiv 2602.04879, binary TV)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._clipping import with_clip_ratios
from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens


class DPPO(PolicyObjective):
    """A trust region in probability: unlikely tokens may multiply theirs, likely ones may not jump."""

    type: Literal["dppo"] = "dppo"
    charts: ClassVar[tuple[str, ...]] = (
        *PolicyObjective.charts,
        "clip_ratio/low_mean|clip_ratio/high_mean",
    )
    formula: ClassVar[str] = (
        "L = sum_t w_t (-k_t rho_t A + drift_coef (log rho_t)^2), rho_t = pi(t) / pi_old(t), "
        "k_t = 0 where A > 0 and pi - pi_old > mask_high, or A <= 0 and pi - pi_old < -mask_low; else 1"
    )

    mask_low: float = Field(0.2, gt=0, le=1, json_schema_extra=BASIC)
    """How far a probability may fall before a negative advantage stops pushing it. Healthy: 0.2.
    Source: arXiv 2602.04879; prime-rl (dppo_mask_low)."""
    mask_high: float = Field(0.2, gt=0, le=1, json_schema_extra=BASIC)
    """How far a probability may rise before a positive advantage stops pushing it. Healthy: 0.2.
    Source: arXiv 2602.04879; prime-rl (dppo_mask_high)."""
    drift_coef: float = Field(1e-3, ge=0, le=10)
    """Weight of the squared log-ratio, which pulls every token, dropped ones too, back to the policy that
    sampled. Healthy: 0.001. Source: Kimi K2.5, arXiv 2602.02276; prime-rl (kl_tau)."""

    @property
    def silent_without_advantage(self) -> bool:
        """The pull back acts on every token."""
        return super().silent_without_advantage and self.drift_coef == 0

    def per_token(self, tokens: Tokens) -> PerToken:
        """-ratio A where the probability is inside the region, and the pull back."""
        import torch

        ratio_BT, advantage_BT = tokens.log_ratio_BT.exp(), tokens.advantage_BT
        moved_BT = tokens.logp_BT.detach().exp() - tokens.old_logp_BT.exp()
        low_BT = (moved_BT < -self.mask_low) & (advantage_BT < 0)
        high_BT = (moved_BT > self.mask_high) & (advantage_BT > 0)
        loss_BT = torch.where(low_BT | high_BT, 0.0, -ratio_BT * advantage_BT)
        found = with_clip_ratios(loss_BT, low_BT, high_BT, tokens)
        if self.drift_coef > 0:
            found.beside_BT = self.drift_coef * tokens.log_ratio_BT**2
        return found
