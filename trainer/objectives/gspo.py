"""GSPO: a clipped ratio of whole answers, the geometric mean of the tokens' ratios (arXiv 2507.18071)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives._aggregation import Aggregation
from trainer.objectives._clipping import ClippedObjective
from trainer.objectives._policy import BASIC
from trainer.objectives._tokens import PerToken, Tokens


class GSPO(ClippedObjective):
    """As GRPO, but an answer is clipped as a whole: steadier for long answers and expert mixtures."""

    type: Literal["gspo"] = "gspo"
    formula: ClassVar[str] = (
        "L = -mean_i min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i) + beta w_t KL_t, "
        "s_i = exp(mean_t log(pi(t) / pi_old(t)))"
    )

    aggregation: Aggregation = Field("sequence-mean", json_schema_extra=BASIC)
    """Normaliser of the sum over tokens. Each token carries its answer's loss: anything but sequence-mean
    gives long answers more weight. Healthy: sequence-mean. Source: arXiv 2507.18071, equation 5."""
    clip_low: float = Field(3e-4, gt=0, lt=1, json_schema_extra=BASIC)
    """How far the ratio of an answer may fall; a mean over tokens moves far less than one token does.
    Healthy: 0.0003. Source: arXiv 2507.18071, section 5.1."""
    clip_high: float = Field(4e-4, gt=0, lt=10, json_schema_extra=BASIC)
    """How far the ratio of an answer may rise. Healthy: 0.0004. Source: arXiv 2507.18071, section 5.1."""
    form: Literal["sequence", "token"] = "sequence"
    """Differentiate the answer's ratio, or give each token the answer's ratio and its own gradient and
    advantage (GSPO-token): the same where the advantage does not differ between tokens.
    Healthy: sequence; token with advantages per token. Source: arXiv 2507.18071, equations 5 and 13."""

    def per_token(self, tokens: Tokens) -> PerToken:
        """The clipped surrogate of each answer's ratio."""
        log_ratio_B1 = tokens.mean_B1(tokens.log_ratio_BT)
        if self.form == "sequence":
            return self.surrogate(log_ratio_B1.exp(), tokens.advantage_B1, tokens)
        # In value the answer's ratio; the gradient is that of the token's own log-probability.
        own_BT = tokens.logp_BT - tokens.logp_BT.detach()
        return self.surrogate((log_ratio_B1.detach() + own_BT).exp(), tokens.advantage_BT, tokens)
