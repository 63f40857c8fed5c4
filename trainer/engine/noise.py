"""Noise on input embeddings (NEFTune, arXiv 2310.05914): uniform in (-1, 1) times alpha / sqrt(L H).

L is the length of the sequence itself. The widespread implementations take the length of the padded batch,
so that a short text gets less noise when it happens to stand beside a long one, and the gradient depends
on how the batch was split; equal lengths give the same numbers. Each value is a pure function of
(key, position, channel), so that micro-batches, packing and resuming do not change it.
Legend: P documents, R rows, T row tokens, H hidden size.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.engine.seeds import sample_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from trainer.engine.packing import Layout
    from trainer.engine.policy import Policy


@dataclass(frozen=True)
class Noise:
    """How much noise the documents of a step get."""

    alpha: float
    keys_P: torch.Tensor
    """One 64-bit key per document."""

    @classmethod
    def of_step(cls, alpha: float, seed: int, step: int, documents: Sequence[int]) -> Noise | None:
        """The noise of an optimizer step's documents, numbered within the step; None when it is off."""
        if not alpha:
            return None
        keys = sample_keys(seed, "embedding-noise", step, list(documents), 1)[:, 0]
        return cls(alpha, torch.from_numpy(keys.view(np.int64)))

    def values(self, layout: Layout, hidden: int) -> torch.Tensor:
        """What is added to the embeddings, (R, T, H) float32; 0 in padding."""
        device = layout.document_RT.device
        key_RT1 = self.keys_P.to(device)[layout.document_RT.clamp(min=0)][..., None]
        channel_H = torch.arange(hidden, device=device)
        counter_RTH = layout.position_RT[..., None] * hidden + channel_H + 1
        uniform_RTH = _uniform(key_RT1 + counter_RTH * _GOLDEN)
        scale_RT = self.alpha / (layout.extent_RT * hidden).float().sqrt()
        scale_RT = scale_RT.masked_fill(layout.document_RT < 0, 0.0)
        return (2 * uniform_RTH - 1) * scale_RT[..., None]


@contextmanager
def noisy_embeddings(policy: Policy, layout: Layout, noise: Noise | None) -> Iterator[None]:
    """Within, the model's input embeddings carry the noise."""
    if noise is None:
        yield
        return

    def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + noise.values(layout, output.shape[-1]).to(output.dtype)

    handle = policy.model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


# SplitMix64, as in `seeds`, in wrapping signed arithmetic: torch has no unsigned product on every device.
_GOLDEN, _FIRST, _SECOND = (
    value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _uniform(words: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) with 24 bits, float32."""
    words = (words ^ _shifted(words, 30)) * _FIRST
    words = (words ^ _shifted(words, 27)) * _SECOND
    words = words ^ _shifted(words, 31)
    return _shifted(words, 40).float() * 2.0**-24


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifted right as if unsigned."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
