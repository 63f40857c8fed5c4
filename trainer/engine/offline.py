"""Learning from written answers: what demonstrations, pairs, labels and ratings share.

A step in reading order: `loop.Loop._step` asks the learner to `gather` the next examples, differentiates
what `losses` yields micro-batch by micro-batch (`update.optimizer_step`) and has it `commit`. `gather` and
`commit` are here; `losses` is what the kinds of rows differ in: demonstrations, pairs, labels, rankings.
Legend: B answers of the micro-batch, A answer tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from trainer.engine.forward import Sequences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.spec import RunSpec


def sequences_of(examples: Sequence[Example]) -> Sequences:
    """The examples' answers behind their prompts, in order."""
    answers = [ids for example in examples for ids in example.answers]
    prompt_of = [index for index, example in enumerate(examples) for _ in example.answers]
    scored = None
    if any(example.trained is not None for example in examples):
        scored = [
            [True] * len(ids) if example.trained is None else example.trained
            for example in examples
            for ids in example.answers
        ]
    return Sequences([example.prompt for example in examples], answers, prompt_of, scored=scored)


def mask_of(answers: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """Which of `width` cells hold tokens."""
    lengths = torch.tensor([len(answer) for answer in answers])
    return torch.arange(width)[None, :] < lengths[:, None]


def fitted(values_BA: torch.Tensor, width: int) -> torch.Tensor:
    """Padded with zeros to a width."""
    missing = width - values_BA.shape[1]
    return pad(values_BA, (0, missing)) if missing else values_BA


class Offline:
    """A batch of examples for each step."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        self.session, self.spec, self.policy = session, spec, policy
        self.reference, self.cursor = reference, cursor
        self.updates = 1
        self.dials: Mapping[str, float] = spec.objective.dials({}, {}, 0.0)
        self.examples: list[Example] = []
        self.visited: list[int] = []

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Take the next examples."""
        with self.session.clock.part("data"):
            self.examples, self.visited = self.cursor.take(
                state.visited, self.spec.batch.prompts_per_step
            )
        return {}

    def commit(self, state: State) -> int:
        """Move the state behind this step; returns the tokens that were processed."""
        state.visited = self.visited
        prompts = sum(len(example.prompt) * len(example.answers) for example in self.examples)
        return prompts + self.answer_tokens()

    def answer_tokens(self) -> int:
        """Answer tokens of the step."""
        return sum(len(ids) for example in self.examples for ids in example.answers)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """Nothing beside the state."""
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Nothing to take up."""
