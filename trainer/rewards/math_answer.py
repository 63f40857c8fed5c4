r"""Math answer: 1 when the final answer equals the reference, as an exact number or as an expression.

Numbers are compared first, as fractions: `#### 18`, `\boxed{18}`, `A: $18.00` and "so she earns 18" are
equal, and so are 1,234 and 1234, 3/4 and 0.75, 50% and 0.5. Only what is not a number goes to math-verify.
"""

from collections import Counter
from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward
from trainer.rewards import _final_answer, _symbolic


class MathAnswer(Reward):
    """Pay 1 for a right final answer, however it is written, else 0."""

    type: Literal["math-answer"] = "math-answer"
    exact: ClassVar[bool] = True
    counts: ClassVar[Counter[str]] = _symbolic.COUNTS
    """`timeouts`: answers that could not be scored in time, in this process."""

    column: str = "answer"
    """The column of the reference: a number, an expression, or a worked solution that ends in one."""
    marked: bool = Field(False, json_schema_extra={"basic": True})
    r"""Only an answer marked by `\boxed{}`, `####`, `A:` or "the answer is" counts; otherwise the last
    number in the text is taken. Healthy: on, once the model has been shown a mark."""
    tolerance: float = Field(0.0, ge=0, lt=1)
    """Relative difference that still counts as equal; 0 compares exactly."""
    symbolic: bool = True
    """Compare answers that are not numbers with math-verify, in a process of its own, for at most one
    second of processor time; an answer that takes longer is left out of the means. Source: math-verify 0.9."""
    needs_stop: bool = True
    """An answer that ran into the length limit gets 0."""
    most_characters: int = Field(20_000, ge=100, le=1_000_000)
    """Only the end of a longer answer is looked at. Unit: characters."""

    def score(self, answer: Answer) -> float | None:
        """1 or 0; None when the row has no reference, or when math-verify took too long."""
        reference = answer.row.get(self.column)
        if reference is None or str(reference).strip() == "":
            return None
        if self.needs_stop and answer.finish_reason != "stop":
            return 0.0
        gold_text = _final_answer.marked_answer(str(reference)) or str(reference)
        gold = _final_answer.number_of(gold_text)
        text = answer.text[-self.most_characters :]
        found = _final_answer.marked_answer(text)
        if found is None and self.marked:
            return 0.0
        if gold is not None:
            number = (
                _final_answer.last_number(text) if found is None else _final_answer.number_of(found)
            )
            if number is not None:
                return float(number.equals(gold, self.tolerance))
            if found is None:
                return 0.0
        return self._compared(gold_text, found if found is not None else text.strip())

    def _compared(self, gold: str, found: str) -> float | None:
        if _final_answer.plain_text(gold) == _final_answer.plain_text(found):
            return 1.0
        if not self.symbolic or not found:
            return 0.0
        equal = _symbolic.WORKER.equal(gold, found)
        return None if equal is None else float(equal)
