"""Length window: a soft penalty outside a range of lengths (DAPO, arXiv 2503.14476, equation 13)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.registry import Answer, Reward


class LengthWindow(Reward):
    """0 inside the window, down to -1 at its ends: add it to a reward that pays for being right."""

    type: Literal["length-window"] = "length-window"

    min_tokens: int = Field(0, ge=0)
    """Shorter answers get -1; 0 turns this end off. Unit: tokens."""
    max_tokens: int = Field(1024, ge=1, json_schema_extra={"basic": True})
    """Longer answers get -1. Unit: tokens. Healthy: the rollout's max_new_tokens or a little less.
    Source: arXiv 2503.14476, equation 13 (L_max)."""
    ramp: int = Field(128, ge=0, json_schema_extra={"basic": True})
    """Tokens inside the ends over which the penalty falls from -1 to 0; 0 makes a hard edge. Unit: tokens.
    Healthy: a tenth to a quarter of max_tokens. Source: arXiv 2503.14476, equation 13 (L_cache)."""

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        ends = self.ramp * (2 if self.min_tokens else 1)
        if self.min_tokens + ends > self.max_tokens:
            raise ValueError(
                f"no length is free of penalty: max_tokens must be at least {self.min_tokens + ends}"
            )
        return self

    def score(self, answer: Answer) -> float:
        """From -1 to 0."""
        below = self.min_tokens + self.ramp - answer.tokens if self.min_tokens else 0
        above = answer.tokens - (self.max_tokens - self.ramp)
        outside = max(0, below, above)
        if outside == 0:
            return 0.0
        return -1.0 if outside > self.ramp else -outside / self.ramp
