"""GRPO: policy gradient with group-relative advantages and a clipped ratio (arXiv 2402.03300, eq. 3)."""

from typing import ClassVar, Literal

from trainer.objectives._clipping import ClippedObjective
from trainer.objectives._tokens import PerToken, Tokens


class GRPO(ClippedObjective):
    """Raise the probability of answers that score above their group's mean."""

    type: Literal["grpo"] = "grpo"
    formula: ClassVar[str] = (
        "L = -sum_t w_t min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A) + beta w_t KL_t, "
        "rho_t = pi(t) / pi_old(t)"
    )

    def per_token(self, tokens: Tokens) -> PerToken:
        """The clipped surrogate of each token's ratio."""
        return self.surrogate(tokens.log_ratio_BT.exp(), tokens.advantage_BT, tokens)
