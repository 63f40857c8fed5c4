"""Finds out which fast paths a model's architecture allows, by comparing each with the plain path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.forward import ROW_TOKENS, Sequences, token_scores

if TYPE_CHECKING:
    from trainer.engine.policy import Policy


def probe(policy: Policy) -> None:
    """Set `shared_prefix` and `compact_head` where they give the same log-probabilities."""
    model, vocabulary = policy.model, policy.vocabulary
    draw = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=draw).tolist()

    sequences = Sequences([tokens(5), tokens(3)], [tokens(4), tokens(2), tokens(3)], [0, 0, 1])
    tolerance = 1e-4 if policy.dtype is torch.float32 else 0.1
    was_training = model.training
    model.eval()
    with torch.no_grad():
        policy.shared_prefix = policy.compact_head = False
        plain = token_scores(policy, sequences, [0, 1, 2]).padded()[0]
        for name in ("compact_head", "shared_prefix"):
            setattr(policy, name, True)
            try:
                fast = token_scores(policy, sequences, [0, 1, 2]).padded()[0]
                good = bool(((fast - plain).abs() < tolerance).all())
            except (RuntimeError, TypeError, ValueError, AttributeError):
                good = False
            setattr(policy, name, good)
    if _short_window(policy):
        # A mask of ours replaces the window, and the probe is too short to notice.
        policy.shared_prefix = False
    model.train(was_training)


def _short_window(policy: Policy) -> bool:
    """Whether some layers see fewer tokens than a shared row may hold."""
    window = getattr(policy.model.config.get_text_config(), "sliding_window", None)
    return isinstance(window, int) and window < ROW_TOKENS
