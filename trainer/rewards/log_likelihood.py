"""Log-likelihood: how likely the model finds the reference answer (teacher forcing)."""

import math
from typing import Literal

from pydantic import Field

from trainer.registry import Answer, Reward
from trainer.rewards._likelihood import reference_logps


class LogLikelihood(Reward):
    """Sum, or mean over tokens, of log p(token | prompt, reference before it), in nats; nothing is sampled for it.

    At temperature 1 and over the whole vocabulary, whatever `[evaluation]` samples with. The reference is
    encoded behind the prompt as a training answer would be. Sums compare models with different
    tokenizers, means do not.
    """

    type: Literal["log-likelihood"] = "log-likelihood"

    weight: float = Field(0.0, json_schema_extra={"basic": True, "live": True})
    """Factor of this part in the total reward; it is measured whatever this says. Healthy: 0: it is no reward."""
    column: str = Field("answer", json_schema_extra={"basic": True})
    """The column that holds the reference answer."""
    per: Literal["answer", "token"] = Field("answer", json_schema_extra={"basic": True})
    """`answer` sums over the tokens, `token` takes their mean."""
    end_token: bool = True
    """Count the token that ends the answer: the model must know that it is complete. Healthy: on."""

    @property
    def reads(self) -> str:
        """The reference."""
        return self.column

    def score(self, answer: Answer) -> float:
        """At most 0. Raises Unscorable where there is no reference, or the model cannot read it."""
        logps = reference_logps(answer, self.column, self.end_token)
        total = math.fsum(logps)
        return total / len(logps) if self.per == "token" else total
