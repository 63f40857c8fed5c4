"""Scores of written answers under the reference, computed once and kept: also in checkpoints.

They are kept by what was scored, not by the row's name: two rows may share an id, a row's answer not.
Legend: E examples, K answers of an example.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.ranks import Ranks

DIGEST_BYTES = 16


class ReferenceScores:
    """A score for each answer of an example."""

    def __init__(self, memory: dict[bytes, tuple[float, ...]] | None = None) -> None:
        """`memory` is the reference's own (`Reference.memory`): it is emptied when the reference moves."""
        self._known = {} if memory is None else memory

    def __len__(self) -> int:
        return len(self._known)

    def lack(self, examples: Sequence[Example]) -> bool:
        """Whether any of the examples was not scored yet."""
        return any(_key(example) not in self._known for example in examples)

    def add(self, examples: Sequence[Example], score_EK: torch.Tensor) -> None:
        """Keep scores; those that are known stay, for in another batch they would differ in the last bit."""
        for example, scores in zip(examples, score_EK.tolist(), strict=True):
            self._known.setdefault(_key(example), tuple(scores))

    def of(self, examples: Sequence[Example], device: torch.device) -> torch.Tensor:
        """The scores (E, K). Raises KeyError for an example that was not scored."""
        return torch.tensor([self._known[_key(example)] for example in examples], device=device)

    def share(self, ranks: Ranks, mine: Sequence[Example]) -> None:
        """Tell the other ranks the scores of `mine`, and learn theirs: all ranks know the same afterwards."""
        if ranks.alone:
            return
        names = [_key(example) for example in mine]
        values = torch.tensor([self._known[name] for name in names], dtype=torch.float64)
        for tensors, told in ranks.gather({"values": values}, [name.hex() for name in names]):
            for name, scores in zip(told, tensors["values"].tolist(), strict=True):
                self._known.setdefault(bytes.fromhex(name), tuple(scores))

    def tensors(self) -> dict[str, torch.Tensor]:
        """For the checkpoint."""
        if not self._known:
            return {}
        names = np.frombuffer(b"".join(self._known), dtype=np.uint8).copy()
        return {
            "reference_ids": torch.from_numpy(names).view(-1, DIGEST_BYTES),
            "reference_values": torch.tensor(list(self._known.values()), dtype=torch.float32),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave."""
        if "reference_ids" not in tensors:
            return
        names = [bytes(row) for row in tensors["reference_ids"].numpy()]
        values = tensors["reference_values"].tolist()
        self._known |= {name: tuple(row) for name, row in zip(names, values, strict=True)}


def _key(example: Example) -> bytes:
    """A digest of the tokens of the prompt and of every answer."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for tokens in (example.prompt, *example.answers):
        digest.update(np.array([len(tokens), *tokens], dtype=np.int64).tobytes())
    return digest.digest()
