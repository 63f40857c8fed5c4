"""CISPO: REINFORCE weighed by a clipped ratio without gradient, so every token learns (arXiv 2506.13585)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens


class CISPO(PolicyObjective):
    """Clip the weight of a token's gradient instead of dropping the token."""

    type: Literal["cispo"] = "cispo"
    charts: ClassVar[tuple[str, ...]] = (*PolicyObjective.charts, "cispo_clip_ratio")
    formula: ClassVar[str] = (
        "L = -sum_t w_t sg(clip(rho_t, ratio_min, ratio_max)) A log pi(t), rho_t = pi(t) / pi_old(t)"
    )

    ratio_max: float = Field(5.0, gt=1, le=1000, json_schema_extra=BASIC)
    """The largest weight itself, as TRL's epsilon_high and ScaleRL's epsilon_max. Where a paper or trainer
    clips at 1 + epsilon_high (MiniMax, verl, slime, SkyRL), set 1 + its value. Healthy: 2 to 5.
    Source: arXiv 2510.13786; 2506.13585."""
    ratio_min: float = Field(0.0, ge=0, lt=1)
    """The smallest weight; 0 sets no lower bound. Healthy: 0. Source: arXiv 2506.13585, which leaves
    the lower side open (verl, slime: 1 - epsilon_low)."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """-weight A logp, the weight without gradient."""
        ratio_BT = tokens.log_ratio_BT.detach().exp()
        weight_BT = ratio_BT.clamp(self.ratio_min, self.ratio_max)
        capped_BT = tokens.mask_BT & (ratio_BT > self.ratio_max) & (tokens.advantage_BT > 0)
        return PerToken(
            -weight_BT * tokens.advantage_BT * tokens.logp_BT,
            means={"cispo_clip_ratio": (float(capped_BT.sum()), float(tokens.mask_BT.sum()))},
        )
