"""harness: the documents of an lm-evaluation-harness task, with the prompts that the harness builds."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.registry import Row, Source, task_rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class Harness(Source):
    """Rows of a task whose data are local; score them with the reward `harness-task`."""

    type: Literal["harness"] = "harness"
    own_split: ClassVar[bool] = True

    task: str = Field("sort_digits", max_length=128)
    """Name of a file NAME.yaml in the folder that ANNEAL_HARNESS_DIR names, or of a shipped task."""

    def rows(self, split: str, seed: int) -> "Iterator[Row]":
        """The documents that the harness evaluates on, in its order. Raises ValueError for "train"."""
        if split != "test":
            raise ValueError('harness: a task is there to evaluate; set split to "test"')
        return task_rows(self.task)

    def characters(self) -> str:
        """What the shipped tasks are made of."""
        return "0123456789sort ="
