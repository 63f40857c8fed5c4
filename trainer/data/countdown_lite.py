"""countdown-lite: reach a target from three numbers with plus and minus; kept as a negative control."""

import random
from itertools import permutations, product
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.registry import Row, Source

if TYPE_CHECKING:
    from collections.abc import Iterator


class CountdownLite(Source):
    """Rows such as "7 2 5 make 4 = " with the answer "7+2-5"; a tiny model that was shown only the form of
    an answer does not learn to hit the target by RL."""

    type: Literal["countdown-lite"] = "countdown-lite"

    numbers: int = Field(3, ge=2, le=4)
    """How many numbers there are; each is used exactly once."""
    largest: int = Field(9, ge=5, le=99)
    """Largest number."""
    quality: float = Field(0.0, ge=0, le=1)
    """Share of demonstrations that hit the target; the others only have the right form. Healthy: 0 for
    the negative control, 0.5 for a start from which RL does learn."""

    def rows(self, split: str, seed: int) -> "Iterator[Row]":
        """An endless stream: prompt, answer (one that hits), numbers, target, completion, chosen, rejected."""
        draw = random.Random(f"countdown-lite/{split}/{seed}")
        while True:
            numbers = [draw.randint(1, self.largest) for _ in range(self.numbers)]
            values = _expressions(numbers)
            # Every value is as likely as the others, so that no fixed habit (always add) earns much.
            target = draw.choice(sorted({value for value in values.values() if value >= 0}))
            hits = [text for text, value in values.items() if value == target]
            misses = [text for text, value in values.items() if value != target]
            if not misses:
                continue
            answer, rejected = draw.choice(hits), draw.choice(misses)
            shown = answer if draw.random() < self.quality else draw.choice(list(values))
            yield {
                "prompt": f"{' '.join(map(str, numbers))} make {target} = ",
                "answer": answer,
                "numbers": numbers,
                "target": target,
                "completion": shown,
                "chosen": answer,
                "rejected": rejected,
            }

    def characters(self) -> str:
        """Digits, signs and the word of the prompt."""
        return "0123456789+-= make"


def _expressions(numbers: list[int]) -> dict[str, int]:
    """Every way to write the numbers once each with plus and minus -> its value."""
    found = {}
    for order in sorted(set(permutations(numbers))):
        for signs in product((1, -1), repeat=len(order) - 1):
            pairs = list(zip(signs, order[1:], strict=True))
            text = str(order[0]) + "".join(
                f"{'+' if sign > 0 else '-'}{number}" for sign, number in pairs
            )
            found[text] = order[0] + sum(sign * number for sign, number in pairs)
    return found
