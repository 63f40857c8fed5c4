"""PPO's clipped surrogate and what it measures: shared by the objectives that clip a ratio.

Shapes: (B, T) for token ratios, (B, 1) for one ratio per answer; B answers, T answer tokens.
"""

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens

if TYPE_CHECKING:
    import torch


class ClippedObjective(PolicyObjective):
    """A policy gradient whose ratio is clipped on the side that the advantage pushes to."""

    charts: ClassVar[tuple[str, ...]] = (
        *PolicyObjective.charts,
        "clip_ratio/low_mean|clip_ratio/high_mean",
    )

    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=BASIC)
    """How far a ratio may fall before its gradient stops. Healthy: 0.2.
    Source: PPO, arXiv 1707.06347, equation 7 (TRL: epsilon)."""
    clip_high: float = Field(0.28, gt=0, lt=10, json_schema_extra=BASIC)
    """How far a ratio may rise; above clip_low it leaves room for unlikely tokens (clip-higher).
    Healthy: 0.2 to 0.28. Source: DAPO, arXiv 2503.14476, 3.1 (TRL: epsilon_high)."""
    dual_clip: float = Field(0.0, ge=0, le=1000)
    """Above 0, the largest ratio that a token with a negative advantage may have before its gradient
    stops (dual-clip PPO's c, INTELLECT-2's two-sided delta: one bound under two names). Healthy: 0 (off),
    3 or 4. Source: arXiv 1912.09729; 2505.07291 (TRL: delta)."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.dual_clip and self.dual_clip <= 1 + self.clip_high:
            raise ValueError("dual_clip must exceed 1 + clip_high, or be 0 (off)")
        return self

    def surrogate(
        self, ratio: "torch.Tensor", advantage: "torch.Tensor", tokens: Tokens
    ) -> PerToken:
        """-min(ratio A, clip(ratio) A), of the shape of `ratio`, with TRL's clip ratios."""
        import torch

        inside = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        # For A > 0 the other branch already stops at 1 + clip_high, which is below dual_clip.
        free = ratio.clamp(max=self.dual_clip) if self.dual_clip else ratio
        low = (ratio < 1 - self.clip_low) & (advantage < 0)
        high = (ratio > 1 + self.clip_high) & (advantage > 0)
        loss = -torch.minimum(free * advantage, inside * advantage)
        return with_clip_ratios(loss, low, high, tokens)


def with_clip_ratios(
    loss: "torch.Tensor", low: "torch.Tensor", high: "torch.Tensor", tokens: Tokens
) -> PerToken:
    """The loss with the shares of tokens, (B, T), or of answers, (B, 1), where a bound binds."""
    trained_B1 = tokens.lengths_B1 > 0
    counted = tokens.mask_BT if low.shape == tokens.mask_BT.shape else trained_B1
    low, high, cells = low & counted, high & counted, float(counted.sum())
    found = PerToken(
        loss,
        means={
            "clip_ratio/low_mean": (float(low.sum()), cells),
            "clip_ratio/high_mean": (float(high.sum()), cells),
            "clip_ratio/region_mean": (float((low | high).sum()), cells),
        },
    )
    if bool(trained_B1.any()):
        count_B1 = counted.sum(-1, keepdim=True).clamp(min=1)
        low_share_B = (low.sum(-1, keepdim=True) / count_B1)[trained_B1]
        high_share_B = (high.sum(-1, keepdim=True) / count_B1)[trained_B1]
        found.minima["clip_ratio/low_min"] = float(low_share_B.min())
        found.maxima["clip_ratio/high_max"] = float(high_share_B.max())
    return found
