"""SAPO: a soft gate on the ratio in place of a clip, wider for positive advantages (arXiv 2511.20347)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._aggregation import Aggregation
from trainer.objectives._policy import BASIC, PolicyObjective
from trainer.objectives._tokens import PerToken, Tokens


class SAPO(PolicyObjective):
    """Let a token's gradient fade as its ratio leaves 1, instead of cutting it off."""

    type: Literal["sapo"] = "sapo"
    formula: ClassVar[str] = (
        "L = -sum_t w_t (4 / tau) sigmoid(tau (rho_t - 1)) A, "
        "tau = temperature_pos where A > 0, else temperature_neg"
    )

    aggregation: Aggregation = Field("sequence-mean", json_schema_extra=BASIC)
    """Normaliser of the sum over tokens. Healthy: sequence-mean.
    Source: arXiv 2511.20347 (TRL: loss_type sapo)."""
    temperature_pos: float = Field(1.0, gt=0, le=100, json_schema_extra=BASIC)
    """How fast the gate closes for tokens with a positive advantage; higher is narrower. Healthy: 1.
    Source: arXiv 2511.20347 (TRL: sapo_temperature_pos)."""
    temperature_neg: float = Field(1.05, gt=0, le=100, json_schema_extra=BASIC)
    """The same for the others: their gradients spread over the vocabulary and are less steady, so it is
    higher. Healthy: 1.05. Source: arXiv 2511.20347 (TRL: sapo_temperature_neg)."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """The gated ratio times the advantage; at ratio 1 its gradient is that of the plain ratio."""
        import torch

        ratio_BT, advantage_BT = tokens.log_ratio_BT.exp(), tokens.advantage_BT
        tau_BT = torch.where(advantage_BT > 0, self.temperature_pos, self.temperature_neg)
        gate_BT = torch.sigmoid(tau_BT * (ratio_BT - 1)) * 4 / tau_BT
        return PerToken(-gate_BT * advantage_BT)
