"""noisy-sort: sort digits; the demonstrated answers are wrong with a set probability, so RL can win."""

import random
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.registry import Row, Source

if TYPE_CHECKING:
    from collections.abc import Iterator


class NoisySort(Source):
    """Rows such as "sort 50316 =" with the answer "01356"."""

    type: Literal["noisy-sort"] = "noisy-sort"

    digits: int = Field(5, ge=2, le=9)
    """Digits to sort. Unit: characters."""
    noise: float = Field(0.6, ge=0, le=1)
    """Share of demonstrations whose completion is a random permutation instead of the sorted one."""

    def rows(self, split: str, seed: int) -> "Iterator[Row]":
        """An endless stream: prompt, answer (sorted), completion (noisy), its label, chosen and rejected."""
        draw = random.Random(f"noisy-sort/{split}/{seed}")
        while True:
            digits = draw.choices("0123456789", k=self.digits)
            answer = "".join(sorted(digits))
            shuffled = "".join(draw.sample(digits, self.digits))
            noisy = shuffled if draw.random() < self.noise else answer
            prompt = f"sort {''.join(digits)} = "
            row: Row = {"prompt": prompt, "answer": answer, "completion": noisy}
            row["label"] = noisy == answer
            if shuffled != answer:
                row |= {"chosen": answer, "rejected": shuffled}
                yield row

    def characters(self) -> str:
        """Digits and the words of the prompt."""
        return "0123456789sort ="
