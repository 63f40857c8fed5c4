"""Exact match: 1 when the answer equals the row's reference answer."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward


class ExactMatch(Reward):
    """Pay 1 for an answer that equals the reference, else 0."""

    type: Literal["exact-match"] = "exact-match"
    exact: ClassVar[bool] = True

    column: str = "answer"
    """The column that holds the reference answer."""
    ignore_case: bool = False
    """Compare without regard to upper and lower case."""
    strip: bool = True
    """Ignore white space at both ends."""
    needs_stop: bool = Field(True)
    """An answer that ran into the length limit gets 0 even when its text matches."""

    def score(self, answer: Answer) -> float | None:
        """1 or 0; None when the row has no reference."""
        reference = answer.row.get(self.column)
        if reference is None:
            return None
        if self.needs_stop and answer.finish_reason != "stop":
            return 0.0
        return float(self._normal(answer.text) == self._normal(str(reference)))

    def _normal(self, text: str) -> str:
        text = text.strip() if self.strip else text
        return text.casefold() if self.ignore_case else text
