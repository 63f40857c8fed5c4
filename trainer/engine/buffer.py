"""One batch of rollouts, as training and checkpoints need it.

Legend: P prompts, N answers of the rollout batch, A answer tokens (padded on the right), B answers of one
optimizer step or micro-batch, T its answer tokens as a loss names them (as many as A).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.engine.batches import Rollouts
from trainer.engine.packing import Sequences
from trainer.engine.seeds import sample_keys, uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.ranks import Ranks
    from trainer.engine.sampler import Sampled

SAVED = {
    "old_logp": "old_logp_NA",
    "sampler_logp": "sampler_logp_NA",
    "age": "age_N",
    "old_entropy": "old_entropy_NA",
    "log_kept": "log_kept_NA",
    "truncated": "truncated_N",
    "advantage": "advantage_NA",
    "ref_logp": "ref_logp_NA",
    "value": "value_NA",
    "return": "return_NA",
}
"""Names in a checkpoint and the fields they hold; what a batch lacks is left out."""


@dataclass
class Buffer:
    """What was sampled, what it earned, and what models said about it when it was sampled."""

    sequences: Sequences
    old_logp_NA: torch.Tensor
    """Under the policy that ratios compare with, temperature and kept set included: the one that sampled, or
    with `correction.old_policy = "trainer"` the trainer's before its first update on this batch."""
    old_entropy_NA: torch.Tensor
    log_kept_NA: torch.Tensor
    """Log of the mass that truncated sampling kept, under the distribution before it; 0 without."""
    truncated_N: torch.Tensor
    """bool: cut off at max_new_tokens."""
    visited: list[int]
    """The cursor behind this batch."""
    advantage_NA: torch.Tensor
    ref_logp_NA: torch.Tensor | None = None
    value_NA: torch.Tensor | None = None
    return_NA: torch.Tensor | None = None
    sampler_logp_NA: torch.Tensor | None = None
    """As they were recorded while sampling, where `old_logp_NA` is the trainer's."""
    age_N: torch.Tensor | None = None
    """Batches that were learned from since the oldest token of each answer was drawn; None: none."""

    @classmethod
    def of(
        cls, examples: Sequence[Example], sampled: Sequence[Sampled], visited: list[int]
    ) -> Buffer:
        """The answers as they were sampled; their tokens are never encoded again. No advantages yet."""
        kept = [item.kept for item in sampled if item.kept is not None] or None
        sequences = Sequences(
            [example.prompt for example in examples],
            [item.tokens for item in sampled],
            [item.prompt for item in sampled],
            kept,
        )
        return cls(
            sequences,
            _padded([item.logps for item in sampled]),
            _padded([item.entropies for item in sampled]),
            _padded([item.log_kept for item in sampled]),
            torch.tensor([item.finish_reason == "length" for item in sampled]),
            visited,
            torch.zeros(len(sampled), max(len(item.tokens) for item in sampled)),
        )

    @property
    def mask_NA(self) -> torch.Tensor:
        """Which cells hold answer tokens."""
        lengths = torch.tensor([len(answer) for answer in self.sequences.answers])
        return torch.arange(self.old_logp_NA.shape[1])[None, :] < lengths[:, None]

    @property
    def group_N(self) -> torch.Tensor:
        """The prompt of each answer."""
        return torch.tensor(self.sequences.prompt_of)

    @property
    def oldest(self) -> int:
        """The age of the oldest answer."""
        return 0 if self.age_N is None else int(self.age_N.max())

    @property
    def advantage_N(self) -> torch.Tensor:
        """One advantage per answer: the mean over its tokens."""
        mask_NA = self.mask_NA
        total_N = torch.where(mask_NA, self.advantage_NA, 0.0).sum(-1)
        return total_N / mask_NA.sum(-1).clamp(min=1)

    def tokens(self, answers: Sequence[int]) -> tuple[int, int]:
        """Prompt tokens (once per answer) and answer tokens of some answers."""
        of = self.sequences
        prompts = sum(len(of.prompts[of.prompt_of[answer]]) for answer in answers)
        return prompts, sum(len(of.answers[answer]) for answer in answers)

    def dealt(self, ranks: Ranks, answers: Sequence[int]) -> list[int]:
        """Which of some answers are worked on by this rank: whole groups, about as many tokens for each."""
        of = self.sequences
        return ranks.deal_groups(answers, of.prompt_of, [len(answer) for answer in of.answers])

    def minibatch(self, seed: int, step: int, turn: int, parts: int) -> list[int]:
        """The answers of update number `turn` on this batch, sampled at `step`: whole groups.

        Every pass divides the prompts anew, by a permutation that is a pure function of seed, step and pass.
        """
        answers = range(len(self.sequences.answers))
        if parts == 1:
            return list(answers)
        turns, part = divmod(turn, parts)
        prompts = list(range(len(self.sequences.prompts)))
        keys = sample_keys(seed, f"minibatch/{turns}", step, prompts, 1)
        order_P = uniforms(keys, 1)[:, 0, 0].argsort(kind="stable")
        mine = set(np.array_split(order_P, parts)[part].tolist())
        return [answer for answer in answers if self.sequences.prompt_of[answer] in mine]

    def rollouts(self, answers: Sequence[int], device: torch.device, most: int) -> Rollouts:
        """Some answers as a loss sees them, without weights, coefficients and current log-probabilities.

        `most` is the longest answer allowed.
        """
        index = torch.tensor(answers)

        def rows(values: torch.Tensor) -> torch.Tensor:
            return values[index].to(device)

        mask_BA = rows(self.mask_NA)
        return Rollouts(
            mask_BT=mask_BA,
            old_logp_BT=rows(self.old_logp_NA),
            advantage_BT=rows(self.advantage_NA),
            group_B=rows(self.group_N),
            max_new_tokens=most,
            tokens=float(mask_BA.sum()),
            truncated_B=rows(self.truncated_N),
            old_entropy_BT=rows(self.old_entropy_NA),
            ref_logp_BT=None if self.ref_logp_NA is None else rows(self.ref_logp_NA),
            old_value_BT=None if self.value_NA is None else rows(self.value_NA),
            return_BT=None if self.return_NA is None else rows(self.return_NA),
            sampler_logp_BT=None if self.sampler_logp_NA is None else rows(self.sampler_logp_NA),
            age_B=None if self.age_N is None else rows(self.age_N),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything, for a checkpoint."""
        sequences = self.sequences
        saved = {
            "prompt_tokens": torch.tensor([t for ids in sequences.prompts for t in ids]),
            "prompt_lengths": torch.tensor([len(ids) for ids in sequences.prompts]),
            "answer_tokens": torch.tensor([t for ids in sequences.answers for t in ids]),
            "answer_lengths": torch.tensor([len(ids) for ids in sequences.answers]),
            "prompt_of": torch.tensor(sequences.prompt_of),
            "visited": torch.tensor(self.visited),
        }
        for name, field in SAVED.items():
            if getattr(self, field) is not None:
                saved[name] = getattr(self, field)
        if sequences.kept is not None:
            saved["kept"] = torch.from_numpy(np.concatenate(sequences.kept))
        return saved

    @classmethod
    def restored(cls, tensors: dict[str, torch.Tensor]) -> Buffer:
        """The batch that `tensors` gave."""
        answers = _split(tensors["answer_tokens"], tensors["answer_lengths"])
        kept = None
        if "kept" in tensors:
            ends = np.cumsum([len(answer) for answer in answers])[:-1]
            kept = np.split(tensors["kept"].numpy(), ends)
        prompts = _split(tensors["prompt_tokens"], tensors["prompt_lengths"])
        found = {field: tensors[name] for name, field in SAVED.items() if name in tensors}
        sequences = Sequences(prompts, answers, tensors["prompt_of"].tolist(), kept)
        return cls(sequences=sequences, visited=tensors["visited"].tolist(), **found)


def rows_of(whole: Rollouts, places: Sequence[int]) -> Rollouts:
    """Some rows of a batch; what describes the whole batch stays."""
    index = torch.tensor(places, device=whole.mask_BT.device)
    cut: dict[str, Any] = {
        field.name: value[index]
        for field in fields(whole)
        if isinstance(value := getattr(whole, field.name), torch.Tensor)
    }
    cut["term_weight_BT"] = {name: value[index] for name, value in whole.term_weight_BT.items()}
    return replace(whole, **cut)


def _padded(lists: Sequence[Sequence[float]]) -> torch.Tensor:
    found = torch.zeros(len(lists), max(len(values) for values in lists))
    for row, values in enumerate(lists):
        found[row, : len(values)] = torch.tensor(values)
    return found


def _split(flat: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    return [piece.tolist() for piece in flat.split(lengths.tolist())]
