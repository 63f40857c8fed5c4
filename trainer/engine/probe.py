"""Finds out which fast paths a model's architecture allows, by comparing each with the plain path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.forward import token_scores
from trainer.engine.packing import ROW_TOKENS, Sequences, micro_batches

if TYPE_CHECKING:
    from trainer.engine.policy import Policy


def probe(policy: Policy) -> None:
    """Set `shared_prefix` and `compact_head` where they give the same log-probabilities."""
    model, vocabulary = policy.model, policy.vocabulary
    draw = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=draw).tolist()

    sequences = Sequences(
        [tokens(5), tokens(3), tokens(2)],
        [tokens(4), tokens(2), tokens(3), tokens(3)],
        [0, 0, 1, 2],
    )
    wanted = range(4)
    tolerance = 1e-4 if policy.dtype is torch.float32 else 0.1

    def scores() -> torch.Tensor:
        # Two answers behind one prompt in the longest row, two documents in another: both need the mask.
        (rows,) = micro_batches(
            sequences, wanted, budget=1 << 62, shared=policy.shared_prefix, packed=True
        )
        return token_scores(policy, sequences, wanted, rows=rows).padded()[0]

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            policy.shared_prefix = policy.compact_head = False
            plain = scores()
            for name in ("compact_head", "shared_prefix"):
                setattr(policy, name, True)
                try:
                    good = bool(((scores() - plain).abs() < tolerance).all())
                except (RuntimeError, TypeError, ValueError, AttributeError):
                    good = False
                setattr(policy, name, good)
    finally:
        model.train(was_training)
    if short_window(policy):
        # A mask of ours replaces the window, and the probe is too short to notice.
        policy.shared_prefix = False


def short_window(policy: Policy) -> bool:
    """Whether some layers see fewer tokens than a shared row may hold."""
    return 0 < policy.window < ROW_TOKENS
