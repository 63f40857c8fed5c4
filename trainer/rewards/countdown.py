"""Countdown: an expression that uses the given numbers once each and reaches the target."""

import re
from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward


class Countdown(Reward):
    """Pay 1 for an expression that hits the target, a little for one that only uses the right numbers."""

    type: Literal["countdown"] = "countdown"
    exact: ClassVar[bool] = True

    form_pay: float = Field(0.1, ge=0, lt=1, json_schema_extra={"basic": True})
    """Score of an expression of plus and minus that uses each number once but misses the target.
    Healthy: 0 to 0.1; more, and the form is all that is learnt. Source: TinyZero's countdown reward."""
    numbers: str = "numbers"
    """Column of the list of numbers."""
    target: str = "target"
    """Column of the target."""

    def score(self, answer: Answer) -> float | None:
        """1, `form_pay` or 0; None when the row has no numbers or no target."""
        numbers, target = answer.row.get(self.numbers), answer.row.get(self.target)
        if numbers is None or target is None:
            return None
        text = answer.text.strip()
        if answer.finish_reason != "stop" or not re.fullmatch(
            r"[0-9]{1,6}([+-][0-9]{1,6}){0,9}", text
        ):
            return 0.0
        terms = [int(term) for term in re.findall(r"[+-]?[0-9]+", text)]
        if sorted(map(abs, terms)) != sorted(int(number) for number in numbers):
            return 0.0
        return 1.0 if sum(terms) == int(target) else self.form_pay
