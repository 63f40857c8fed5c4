"""Overlong penalty: soft punishment of answers near the length limit (DAPO, arXiv 2503.14476, eq. 13)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.registry import Answer, Reward


class OverlongPenalty(Reward):
    """0 for answers of comfortable length, down to -1 at the limit: add it to a reward for being right.

    An answer that was cut off gets -1 whatever its length, as nobody knows how long it would have been.
    """

    type: Literal["overlong-penalty"] = "overlong-penalty"

    max_tokens: int = Field(1024, ge=1, json_schema_extra={"basic": True})
    """Answers of this length or more get -1. Unit: tokens. Healthy: the rollout's max_new_tokens.
    Source: arXiv 2503.14476, equation 13 (L_max, 20480 there)."""
    buffer_tokens: int = Field(256, ge=1, json_schema_extra={"basic": True})
    """The last tokens below the limit, over which the penalty falls evenly from 0 to -1. Unit: tokens.
    Healthy: a fifth of max_tokens. Source: arXiv 2503.14476, equation 13 (L_cache, 4096 there)."""

    @model_validator(mode="after")
    def _some_length_is_free(self) -> Self:
        if self.buffer_tokens >= self.max_tokens:
            raise ValueError(
                "no length is free of penalty: buffer_tokens must be below max_tokens,"
                f" which is {self.max_tokens}"
            )
        return self

    def score(self, answer: Answer) -> float:
        """From -1 to 0."""
        if answer.finish_reason == "length":
            return -1.0
        over = answer.tokens - (self.max_tokens - self.buffer_tokens)
        return 0.0 if over <= 0 else -min(over / self.buffer_tokens, 1.0)
