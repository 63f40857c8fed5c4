"""scored-pairs: graded answers of several authors become pairs of a correct and an incorrect answer."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from pydantic import Field

from trainer.registry import Row, Transform


class ScoredPairs(Transform):
    """Pair each correct answer of a problem with each incorrect one."""

    type: Literal["scored-pairs"] = "scored-pairs"

    prompt: str = "question"
    """Column of the problem's text."""
    text: str = "solution"
    """Every column that holds an object with this key and the grade's is an author's answer."""
    grade: str = "is_correct"
    """Key of the answer's grade, true or false."""
    most_per_prompt: int = Field(0, ge=0)
    """At most so many pairs of one problem; 0 takes all. Unit: pairs."""

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """The pairs, in the order of the rows. Raises ValueError when no row has graded answers."""
        pairs: list[Row] = []
        graded_rows = 0
        for row in rows:
            if self.prompt not in row:
                raise ValueError(
                    f"scored-pairs: no column '{self.prompt}'; the row has {', '.join(row)}"
                )
            graded = [value for value in row.values() if self._is_graded(value)]
            graded_rows += bool(graded)
            right = [value[self.text] for value in graded if value[self.grade]]
            wrong = [value[self.text] for value in graded if not value[self.grade]]
            found = [
                {"prompt": row[self.prompt], "chosen": chosen, "rejected": rejected}
                for chosen, rejected in product(right, wrong)
                if chosen != rejected
            ]
            pairs += found[: self.most_per_prompt or None]
        if rows and not graded_rows:
            raise ValueError(
                f"scored-pairs: no column holds objects with '{self.text}' and '{self.grade}'"
            )
        return pairs

    def _is_graded(self, value: Any) -> bool:
        return isinstance(value, Mapping) and self.text in value and self.grade in value
