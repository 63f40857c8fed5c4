"""GMPO: the geometric mean of an answer's ratios, each clipped in log space (arXiv 2507.20673)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._aggregation import Aggregation
from trainer.objectives._clipping import with_clip_ratios
from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens


class GMPO(PolicyObjective):
    """As GRPO with a geometric mean: single outlying tokens move it little, so the clip may be wide."""

    type: Literal["gmpo"] = "gmpo"
    focuses_itself: ClassVar[bool] = True
    charts: ClassVar[tuple[str, ...]] = (
        *PolicyObjective.charts,
        "clip_ratio/low_mean|clip_ratio/high_mean",
    )
    formula: ClassVar[str] = (
        "L = -mean_i A_i exp(mean_t c(x_t)) + beta w_t KL_t, x_t = log(pi(t) / pi_old(t)), "
        "c(x) = min(x, clip_high) where A_i > 0, else max(x, -clip_low)"
    )

    aggregation: Aggregation = Field("sequence-mean", json_schema_extra=BASIC)
    """Normaliser. The mean over an answer's tokens is in the loss already, which each token then carries:
    anything but sequence-mean gives long answers more weight. Healthy: sequence-mean.
    Source: arXiv 2507.20673."""
    clip_low: float = Field(0.4, gt=0, le=10, json_schema_extra=BASIC)
    """How far a token's log-ratio may fall. Healthy: 0.4. Source: arXiv 2507.20673 (exp(-0.4))."""
    clip_high: float = Field(0.4, gt=0, le=10, json_schema_extra=BASIC)
    """How far a token's log-ratio may rise. Healthy: 0.4. Source: arXiv 2507.20673 (exp(0.4))."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """-A times the geometric mean of the clipped ratios, one value per answer."""
        import torch

        x_BT, advantage_B1 = tokens.log_ratio_BT, tokens.advantage_B1
        clipped_BT = torch.where(
            advantage_B1 > 0, x_BT.clamp(max=self.clip_high), x_BT.clamp(min=-self.clip_low)
        )
        # The top-entropy mask belongs inside the mean, whose length it changes.
        clipped_BT = torch.where(tokens.focus_BT, clipped_BT, 0.0)
        length_B1 = tokens.focus_BT.sum(-1, keepdim=True).clamp(min=1)
        ratio_B1 = (clipped_BT.sum(-1, keepdim=True) / length_B1).exp()
        low_BT = (x_BT < -self.clip_low) & (advantage_B1 < 0)
        high_BT = (x_BT > self.clip_high) & (advantage_B1 > 0)
        return with_clip_ratios(-ratio_B1 * advantage_B1, low_BT, high_BT, tokens)
