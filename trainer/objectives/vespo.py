"""VESPO: REINFORCE weighed by a smooth gamma curve of the answer's ratio (arXiv 2602.10693)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens

LOWEST, HIGHEST = -18.42068, 20.0
"""Bounds of an answer's log ratio, log(1e-8) and the paper's code's 20: beyond, the weight is 0 anyway."""


class VESPO(PolicyObjective):
    """Fade stale answers out instead of clipping them: sooner where they are to be made likelier."""

    type: Literal["vespo"] = "vespo"
    charts: ClassVar[tuple[str, ...]] = (*PolicyObjective.charts, "vespo/phi_seq_mean")
    formula: ClassVar[str] = (
        "L = -sum_t w_t sg(phi(s)) A log pi(t), phi(s) = s^k exp(fade (1 - s)), s = prod_t pi(t) / pi_old(t)"
    )

    k_pos: float = Field(2.0, ge=0, le=100, json_schema_extra=BASIC)
    """How fast good answers lose weight as they get unlikelier. Healthy: 2. Source: arXiv 2602.10693."""
    fade_pos: float = Field(3.0, ge=0, le=100, json_schema_extra=BASIC)
    """How fast good answers lose weight as they get likelier (lambda). Healthy: 3.
    Source: arXiv 2602.10693."""
    k_neg: float = Field(3.0, ge=0, le=100)
    """How fast bad answers lose weight as they get unlikelier. Healthy: 3. Source: arXiv 2602.10693."""
    fade_neg: float = Field(2.0, ge=0, le=100)
    """How fast bad answers lose weight as they get likelier (lambda). Healthy: 2.
    Source: arXiv 2602.10693."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """-phi A logp, phi without gradient and the same for all tokens of an answer."""
        import torch

        log_s_BT = tokens.log_ratio_BT.detach().clamp(-20, 20)
        log_s_B1 = log_s_BT.sum(-1, keepdim=True).clamp(LOWEST, HIGHEST)
        good_B1 = tokens.advantage_B1 >= 0
        k_B1 = torch.where(good_B1, self.k_pos, self.k_neg)
        fade_B1 = torch.where(good_B1, self.fade_pos, self.fade_neg)
        phi_B1 = (k_B1 * log_s_B1 + fade_B1 * (1 - log_s_B1.exp())).exp()
        per_token_BT = torch.where(tokens.mask_BT, phi_B1, 0.0)
        return PerToken(
            -phi_B1 * tokens.advantage_BT * tokens.logp_BT,
            means={"vespo/phi_seq_mean": (float(per_token_BT.sum()), float(tokens.mask_BT.sum()))},
        )
