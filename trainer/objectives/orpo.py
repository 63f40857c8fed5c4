"""ORPO: imitate the chosen answer and raise its odds over the rejected one's; no reference (arXiv 2403.07691)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, PreferenceObjective, length_averaged

if TYPE_CHECKING:
    import torch

NEARLY_CERTAIN = -1e-6
"""Mean log-probabilities above it are cut: the odds of certainty are infinite."""


class ORPO(PreferenceObjective):
    """Learn from pairs in one stage, straight from a base model."""

    type: Literal["orpo"] = "orpo"
    formula: ClassVar[str] = (
        "L = -mean_t log pi(chosen) - beta log sigmoid(log odds(chosen) - log odds(rejected)), "
        "odds = p / (1 - p), p = exp(mean_t log pi)"
    )

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """Weight of the odds term beside the NLL, the paper's lambda. Healthy: 0.1 to 0.5.
    Source: arXiv 2403.07691, equation 6."""

    @property
    def nll_factor(self) -> float:
        """The paper's loss is an NLL with a penalty. TRL counts the prompt's tokens in it; we do not."""
        return 1.0

    def score_weights(
        self, mask_BT: "torch.Tensor", other_mask_BT: "torch.Tensor"
    ) -> "torch.Tensor":
        """1 / length."""
        return length_averaged(mask_BT)

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The odds term (B,)."""
        from torch.nn.functional import logsigmoid

        return -self.beta * logsigmoid(_log_odds(pair.chosen_B) - _log_odds(pair.rejected_B))

    def _metrics(self, pair: PairScores) -> dict[str, tuple[float, float]]:
        log_odds_B = (_log_odds(pair.chosen_B) - _log_odds(pair.rejected_B)).detach()
        found = super()._metrics(pair)
        return found | {"log_odds_chosen": (float(log_odds_B.sum()), float(len(log_odds_B)))}


def _log_odds(logp_B: "torch.Tensor") -> "torch.Tensor":
    """log(p / (1 - p)) from log p (B,), exact near both ends."""
    import torch

    logp_B = logp_B.clamp(max=NEARLY_CERTAIN)
    # 1 - p cancels near p = 1, log(1 - p) near p = 0: each branch only sees what it is good at.
    near_B = torch.where(logp_B > -0.6931, logp_B, -0.6931)
    far_B = torch.where(logp_B > -0.6931, -0.6931, logp_B)
    log_rest_B = torch.where(
        logp_B > -0.6931, (-torch.expm1(near_B)).log(), torch.log1p(-far_B.exp())
    )
    return logp_B - log_rest_B
