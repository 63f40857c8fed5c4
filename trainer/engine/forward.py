"""Log-probabilities and hidden states of answers, from one forward pass over packed rows.

Legend: R rows, T row tokens, M scored tokens, V vocabulary, H hidden size, B answers of the micro-batch,
A answer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from trainer.engine.noise import noisy_embeddings
from trainer.engine.packing import Layout, Row, Sequences, exact_rows, micro_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.noise import Noise
    from trainer.engine.policy import Policy

__all__ = [
    "Hidden",
    "Row",
    "Scores",
    "Sequences",
    "hidden_states",
    "micro_batches",
    "token_scores",
]

HEAD_CELLS = 1 << 27
"""Tokens times vocabulary above which the output layer works in pieces and recomputes backwards."""


@dataclass
class Cells:
    """Where the flat values of a micro-batch belong."""

    answer_M: torch.Tensor
    """Which of the B answers, in the order they were asked for."""
    token_M: torch.Tensor
    lengths: list[int]

    def scattered(self, flat_M: torch.Tensor) -> torch.Tensor:
        """Flat values as (B, A), 0 where nothing was scored."""
        shape = (len(self.lengths), max(self.lengths, default=0))
        return flat_M.new_zeros(shape).index_put((self.answer_M, self.token_M), flat_M)


@dataclass
class Scores(Cells):
    """What the model says about each scored token, flat (M,)."""

    logp_M: torch.Tensor
    entropy_M: torch.Tensor
    correct_M: torch.Tensor
    """bool: the likeliest token is the one given."""
    collision_M: torch.Tensor
    """log of the sum of squared probabilities, without gradient."""

    def padded(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and hits as (B, A), 0 where there is no token."""
        return (
            self.scattered(self.logp_M),
            self.scattered(self.entropy_M),
            self.scattered(self.correct_M),
        )


@dataclass
class Hidden(Cells):
    """Last hidden states, in the precision of the forward pass."""

    hidden_MH: torch.Tensor
    """At the position that predicts each scored token: the state before that token."""
    last_BH: torch.Tensor
    """At the last token of each answer (of its prompt, where the answer is empty)."""


def token_scores(
    policy: Policy,
    sequences: Sequences,
    wanted: Sequence[int],
    *,
    rows: list[Row] | None = None,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
    noise: Noise | None = None,
) -> Scores:
    """Score the wanted answers in one forward pass, with gradient where gradients are on.

    Entropies carry a gradient on request only: it costs memory of the size of the logits. `noise` is
    added to the input embeddings.
    """
    layout = _layout(policy, sequences, wanted, rows)
    with policy.autocast(), noisy_embeddings(policy, layout, noise):
        if policy.compact_head:
            hidden_RTH = policy.hidden_RTH(layout.ids_RT, layout.position_RT, layout.mask)
            hidden_MH = hidden_RTH[layout.row_M, layout.source_M]
        else:
            logits_RTV = policy.model(
                input_ids=layout.ids_RT,
                position_ids=layout.position_RT,
                attention_mask=layout.mask,
                use_cache=False,
            ).logits
            hidden_MH = logits_RTV[layout.row_M, layout.source_M]

    def score(
        hidden_MH: torch.Tensor, target_M: torch.Tensor, kept_MV: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        with policy.autocast():
            # Without a head of its own the model has given logits already.
            logits_MV = policy.head(hidden_MH) if policy.compact_head else hidden_MH
        return _score(logits_MV.float() / temperature, target_M, kept_MV, entropy_gradient)

    logp_M, entropy_M, correct_M, collision_M = _in_pieces(
        score,
        hidden_MH,
        layout.target_M,
        layout.kept(sequences, policy.vocabulary),
        policy.vocabulary,
    )
    return Scores(
        layout.answer_M,
        layout.token_M,
        [len(sequences.answers[answer]) for answer in wanted],
        logp_M,
        entropy_M,
        correct_M,
        collision_M,
    )


def hidden_states(
    policy: Policy,
    sequences: Sequences,
    wanted: Sequence[int],
    *,
    rows: list[Row] | None = None,
) -> Hidden:
    """Hidden states of the wanted answers: what critics and reward models put their heads on."""
    layout = _layout(policy, sequences, wanted, rows)
    with policy.autocast():
        hidden_RTH = policy.hidden_RTH(layout.ids_RT, layout.position_RT, layout.mask)
    return Hidden(
        layout.answer_M,
        layout.token_M,
        [len(sequences.answers[answer]) for answer in wanted],
        hidden_RTH[layout.row_M, layout.source_M],
        hidden_RTH[layout.last_row_B, layout.last_cell_B],
    )


def _layout(
    policy: Policy, sequences: Sequences, wanted: Sequence[int], rows: list[Row] | None
) -> Layout:
    if rows is None:
        (rows,) = micro_batches(
            sequences, wanted, budget=1 << 62, shared=policy.shared_prefix, whole_groups=True
        )
    return Layout(sequences, exact_rows(sequences, rows, policy), wanted, policy)


def _score(
    logits_MV: torch.Tensor,
    target_M: torch.Tensor,
    kept_MV: torch.Tensor | None,
    entropy_gradient: bool,
) -> tuple[torch.Tensor, ...]:
    if kept_MV is not None:
        logits_MV = logits_MV.masked_fill(~kept_MV, -torch.inf)
    all_MV = logits_MV.log_softmax(-1)
    logp_M = all_MV.gather(1, target_M[:, None])[:, 0]
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        # A token that was not kept has log-probability -inf, and 0 times -inf is NaN.
        entropy_M = -(all_MV.exp() * all_MV.clamp(min=-1e9)).sum(-1)
    with torch.no_grad():
        correct_M = all_MV.argmax(-1) == target_M
        collision_M = (2 * all_MV).logsumexp(-1)
    return logp_M, entropy_M, correct_M, collision_M


def _in_pieces(
    score: Callable[..., tuple[torch.Tensor, ...]],
    hidden_MH: torch.Tensor,
    target_M: torch.Tensor,
    kept_MV: torch.Tensor | None,
    vocabulary: int,
) -> list[torch.Tensor]:
    size = max(1, HEAD_CELLS // vocabulary)
    if len(target_M) <= size:
        return list(score(hidden_MH, target_M, kept_MV))
    pieces = [
        checkpoint(
            score,
            hidden_MH[i : i + size],
            target_M[i : i + size],
            None if kept_MV is None else kept_MV[i : i + size],
            use_reentrant=False,
        )
        for i in range(0, len(target_M), size)
    ]
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]
