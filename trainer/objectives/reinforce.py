"""REINFORCE: the plain policy gradient, advantage times log-probability (Williams 1992)."""

from typing import ClassVar, Literal

from trainer.objectives._policy import PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens


class REINFORCE(PolicyObjective):
    """Raise each sampled token's log-probability by its advantage, without any trust region."""

    type: Literal["reinforce"] = "reinforce"
    formula: ClassVar[str] = (
        "L = -sum_t w_t A log pi(t); with importance_ratio L = -sum_t w_t (pi(t) / pi_old(t)) A"
    )

    importance_ratio: bool = False
    """Weigh each token by pi / pi_old, which keeps the gradient right behind the first update of a rollout
    batch; at the first both are the same. Healthy: off with one update per rollout, on with several.
    Source: arXiv 2402.14740; Williams, Machine Learning 8, 1992."""

    @property
    def on_policy(self) -> bool:
        """Without the ratio nothing corrects for a policy that has moved since it sampled."""
        return not self.importance_ratio

    def per_token(self, tokens: Tokens) -> PerToken:
        """-A logp, or -ratio A."""
        gain_BT = tokens.log_ratio_BT.exp() if self.importance_ratio else tokens.logp_BT
        return PerToken(-tokens.advantage_BT * gain_BT)
