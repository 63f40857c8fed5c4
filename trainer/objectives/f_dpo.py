"""f-DPO: DPO whose distance from the reference is another f-divergence than reverse KL (arXiv 2309.16240)."""

from math import log
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch

LARGEST_EXPONENT = 80.0
"""exp() of more overflows float32; a ratio beyond it has no gradient, as in TRL."""
ALPHA = 0.5


class FDPO(ReferenceObjective):
    """Learn from pairs, staying near the reference in the sense of a divergence of your choice."""

    type: Literal["f-dpo"] = "f-dpo"
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta (f'(pi / pi_ref)(chosen) - f'(pi / pi_ref)(rejected))); f'(u): "
        "reverse-kl log u; forward-kl 1 - 1/u; js log(2u / (1 + u)); alpha (1 - u^-alpha) / alpha"
    )

    divergence: Literal["reverse-kl", "forward-kl", "js", "alpha"] = Field(
        "js", json_schema_extra={"basic": True}
    )
    """Which divergence: `reverse-kl` seeks modes and is DPO itself, `forward-kl` covers them, `js` and
    `alpha` lie between. Healthy: js. Source: arXiv 2309.16240, table 1."""
    alpha: float = Field(ALPHA, gt=0, lt=1)
    """Of the divergence `alpha`: towards 0 it becomes reverse KL, towards 1 forward KL; TRL's coefficient
    is 1 - alpha. Healthy: 0.2 to 0.8. Source: arXiv 2309.16240, table 1."""

    @model_validator(mode="after")
    def _alpha_has_its_divergence(self) -> Self:
        if self.divergence != "alpha" and self.alpha != ALPHA:
            raise ValueError(
                f"alpha: only the divergence alpha looks at it, not {self.divergence}; leave it out"
            )
        return self

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,) of the two answers' f'."""
        from torch.nn.functional import logsigmoid

        chosen_B = self._derivative(pair.chosen_gain_B)
        return -logsigmoid(self.beta * (chosen_B - self._derivative(pair.rejected_gain_B)))

    def _derivative(self, gain_B: "torch.Tensor") -> "torch.Tensor":
        """f' at the ratio of policy and reference (B,), from its logarithm."""
        from torch.nn.functional import logsigmoid

        if self.divergence == "reverse-kl":
            return gain_B
        if self.divergence == "js":
            return log(2) + logsigmoid(gain_B)
        alpha = 1.0 if self.divergence == "forward-kl" else self.alpha
        return (1 - (-alpha * gain_B).clamp(max=LARGEST_EXPONENT).exp()) / alpha
