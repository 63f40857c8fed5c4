"""Perplexity: among how many equally likely tokens the reference answer leaves the model undecided."""

import math
from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward, Unscorable
from trainer.rewards._likelihood import reference_logps


class Perplexity(Reward):
    """exp(-mean over the reference's tokens of log p(token | prompt, reference before it)); lower is better.

    At temperature 1 and over the whole vocabulary; nothing is sampled for it. Models with different
    tokenizers divide by different numbers of tokens: compare them by log-likelihood per answer.
    """

    type: Literal["perplexity"] = "perplexity"
    better: ClassVar[Literal["higher", "lower", ""]] = "lower"

    weight: float = Field(0.0, json_schema_extra={"basic": True, "live": True})
    """Factor of this part in the total reward; it is measured whatever this says. Healthy: 0: it is no reward."""
    column: str = Field("answer", json_schema_extra={"basic": True})
    """The column that holds the reference answer."""
    end_token: bool = True
    """Count the token that ends the answer. Healthy: on."""

    @property
    def reads(self) -> str:
        """The reference."""
        return self.column

    def score(self, answer: Answer) -> float:
        """At least 1. Raises Unscorable where there is no reference, or the model cannot read it."""
        logps = reference_logps(answer, self.column, self.end_token)
        mean = math.fsum(logps) / len(logps)
        if mean < -700:
            raise Unscorable("the model finds the reference all but impossible: no number holds it")
        return math.exp(-mean)
