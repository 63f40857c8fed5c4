"""arithmetic: sums and differences of small numbers."""

import random
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.registry import Row, Source

if TYPE_CHECKING:
    from collections.abc import Iterator


class Arithmetic(Source):
    """Rows such as "17+25 = " with the answer "42"."""

    type: Literal["arithmetic"] = "arithmetic"

    largest: int = Field(99, ge=1, le=9999)
    """Largest operand."""
    noise: float = Field(0.0, ge=0, le=1)
    """Share of demonstrations whose completion is off by one to nine."""

    def rows(self, split: str, seed: int) -> "Iterator[Row]":
        """An endless stream: prompt, answer, completion, chosen and rejected."""
        draw = random.Random(f"arithmetic/{split}/{seed}")
        while True:
            left, right = draw.randint(0, self.largest), draw.randint(0, self.largest)
            sign = draw.choice("+-")
            value = left + right if sign == "+" else left - right
            wrong = value + draw.choice((-1, 1)) * draw.randint(1, 9)
            completion = str(wrong if draw.random() < self.noise else value)
            yield {
                "prompt": f"{left}{sign}{right} = ",
                "answer": str(value),
                "completion": completion,
                "chosen": str(value),
                "rejected": str(wrong),
            }

    def characters(self) -> str:
        """Digits and signs."""
        return "0123456789+-= "
