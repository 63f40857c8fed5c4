"""Answer length: how long an answer is; nothing to be maximised, but what judges and people like too well."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward


class AnswerLength(Reward):
    """The length of the answer: the covariate of a length-controlled comparison (arXiv 2404.04475)."""

    type: Literal["answer-length"] = "answer-length"
    better: ClassVar[Literal["higher", "lower", ""]] = ""

    weight: float = Field(0.0, json_schema_extra={"basic": True, "live": True})
    """Factor of this part in the total reward; it is measured whatever this says. Healthy: 0: it is no reward."""
    of: Literal["tokens", "characters", "words"] = Field(
        "tokens", json_schema_extra={"basic": True}
    )
    """What is counted: the policy's tokens with the end token, characters of the text, or words between white
    space. Models with different vocabularies are compared by characters or words."""

    def score(self, answer: Answer) -> float:
        """A whole number from 0."""
        if self.of == "tokens":
            return float(answer.tokens)
        return float(len(answer.text if self.of == "characters" else answer.text.split()))
