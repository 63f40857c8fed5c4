"""Log-probabilities of answers: rows that share their prompt, cut into micro-batches.

A row is a prompt and some of its answers, each answer seeing the prompt and itself only. Positions
continue from the prompt, so a row's numbers equal those of separate sequences. Legend: R rows, T row
tokens, M scored tokens, V vocabulary, B answers of the micro-batch, A answer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.policy import Policy

ROW_TOKENS = 1024
"""A row takes more answers only up to this length: attention masks grow with its square."""
HEAD_CELLS = 1 << 27
"""Tokens times vocabulary above which the output layer works in pieces and recomputes backwards."""


@dataclass
class Sequences:
    """Answers and the prompts they belong to."""

    prompts: list[list[int]]
    answers: list[list[int]]
    prompt_of: list[int]
    """For each answer the index of its prompt."""
    kept: list[np.ndarray] | None = None
    """For each answer the packed bits (tokens, V / 8) of the tokens that nucleus sampling kept."""


@dataclass(frozen=True)
class Row:
    """A prompt and answers that share it."""

    prompt: int
    answers: tuple[int, ...]
    length: int


@dataclass
class Scores:
    """What the model says about each scored token, flat (M,)."""

    logp_M: torch.Tensor
    entropy_M: torch.Tensor
    correct_M: torch.Tensor
    """bool: the likeliest token is the one given."""
    collision_M: torch.Tensor
    """log of the sum of squared probabilities, without gradient."""
    answer_M: torch.Tensor
    """Which of the B answers, in the order they were asked for."""
    token_M: torch.Tensor
    lengths: list[int]

    def padded(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and hits as (B, A), 0 where there is no token."""
        return (
            self.scattered(self.logp_M),
            self.scattered(self.entropy_M),
            self.scattered(self.correct_M),
        )

    def scattered(self, flat_M: torch.Tensor) -> torch.Tensor:
        """Flat values as (B, A), 0 where there is no token."""
        shape = (len(self.lengths), max(self.lengths, default=0))
        return flat_M.new_zeros(shape).index_put((self.answer_M, self.token_M), flat_M)


def micro_batches(
    sequences: Sequences,
    wanted: Sequence[int],
    *,
    budget: int,
    shared: bool,
    whole_groups: bool = False,
) -> list[list[Row]]:
    """Rows of the wanted answers in micro-batches of at most `budget` padded tokens (at least one row).

    With `whole_groups` the answers of a prompt stay in one micro-batch, as pairs must.
    """
    units: list[list[Row]] = []
    for prompt, answers in _by_prompt(sequences, wanted).items():
        rows = _rows(sequences, prompt, answers, shared)
        units += [rows] if whole_groups else [[row] for row in rows]
    units.sort(key=lambda rows: -max(row.length for row in rows))
    batches: list[list[Row]] = []
    width = 0
    for rows in units:
        longest = max(row.length for row in rows)
        if batches and (len(batches[-1]) + len(rows)) * max(width, longest) <= budget:
            batches[-1] += rows
        else:
            batches.append(list(rows))
            width = longest
    return batches


def _by_prompt(sequences: Sequences, wanted: Sequence[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for answer in wanted:
        groups.setdefault(sequences.prompt_of[answer], []).append(answer)
    return groups


def _rows(sequences: Sequences, prompt: int, answers: list[int], shared: bool) -> list[Row]:
    base = len(sequences.prompts[prompt])
    rows: list[Row] = []
    for answer in answers:
        size = len(sequences.answers[answer])
        last = rows[-1] if rows else None
        if shared and last is not None and last.length + size <= ROW_TOKENS:
            rows[-1] = Row(prompt, (*last.answers, answer), last.length + size)
        else:
            rows.append(Row(prompt, (answer,), base + size))
    return rows


def token_scores(
    policy: Policy,
    sequences: Sequences,
    wanted: Sequence[int],
    *,
    rows: list[Row] | None = None,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> Scores:
    """Score the wanted answers in one forward pass, with gradient where gradients are on.

    Entropies carry a gradient on request only: it costs memory of the size of the logits.
    """
    if rows is None:
        (rows,) = micro_batches(
            sequences, wanted, budget=1 << 62, shared=policy.shared_prefix, whole_groups=True
        )
    place = {answer: index for index, answer in enumerate(wanted)}
    layout = _Layout(sequences, rows, place, policy)
    with policy.autocast():
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
        hidden: torch.Tensor, target: torch.Tensor, kept: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        with policy.autocast():
            logits = policy.head(hidden) if policy.compact_head else hidden
        return _score(logits.float() / temperature, target, kept, entropy_gradient)

    logp_M, entropy_M, correct_M, collision_M = _in_pieces(
        score,
        hidden_MH,
        layout.target_M,
        layout.kept(sequences, policy.vocabulary),
        policy.vocabulary,
    )
    lengths = [len(sequences.answers[answer]) for answer in wanted]
    return Scores(
        logp_M, entropy_M, correct_M, collision_M, layout.answer_M, layout.token_M, lengths
    )


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


class _Layout:
    """The tensors of a micro-batch."""

    def __init__(
        self, sequences: Sequences, rows: list[Row], place: dict[int, int], policy: Policy
    ) -> None:
        width = max(row.length for row in rows)
        ids = np.full((len(rows), width), policy.pad_id, dtype=np.int64)
        # Padding counts on: positions that start again would be read as a second packed document.
        position = np.tile(np.arange(width), (len(rows), 1))
        # Segment 0 is the prompt, 1.. its answers, -1 padding.
        segment = np.full((len(rows), width), -1, dtype=np.int64)
        row_M: list[int] = []
        source_M: list[int] = []
        target_M: list[int] = []
        answer_M: list[int] = []
        token_M: list[int] = []
        self._order: list[int] = []
        for r, row in enumerate(rows):
            prompt = sequences.prompts[row.prompt]
            base = len(prompt)
            ids[r, :base], segment[r, :base] = prompt, 0
            start = base
            for number, answer in enumerate(row.answers, 1):
                tokens = sequences.answers[answer]
                size = len(tokens)
                if not size:
                    continue
                end = start + size
                ids[r, start:end] = tokens
                position[r, start:end] = range(base, base + size)
                segment[r, start:end] = number
                # The first token is predicted at the prompt's last position, each other at the one before.
                source_M += [base - 1, *range(start, end - 1)]
                row_M += [r] * size
                target_M += tokens
                answer_M += [place[answer]] * size
                token_M += range(size)
                self._order.append(answer)
                start = end
        device = policy.device
        self.ids_RT = torch.from_numpy(ids).to(device)
        self.position_RT = torch.from_numpy(position).to(device)
        self.row_M, self.source_M, self.target_M, self.answer_M, self.token_M = (
            torch.tensor(values, dtype=torch.long, device=device)
            for values in (row_M, source_M, target_M, answer_M, token_M)
        )
        self.mask = None
        if any(len(row.answers) > 1 for row in rows):
            self.mask = policy.mask_for_attention(_allowed(torch.from_numpy(segment).to(device)))

    def kept(self, sequences: Sequences, vocabulary: int) -> torch.Tensor | None:
        """Which vocabulary entries nucleus sampling kept at each scored token, (M, V)."""
        if sequences.kept is None:
            return None
        bits = np.concatenate([sequences.kept[answer] for answer in self._order])
        flags = np.unpackbits(bits, axis=1, count=vocabulary).astype(bool)
        return torch.from_numpy(flags).to(self.target_M.device)


def _allowed(segment_RT: torch.Tensor) -> torch.Tensor:
    """Who may look at whom, (R, 1, T, T): earlier tokens of the prompt and of the own answer."""
    query, key = segment_RT[:, :, None], segment_RT[:, None, :]
    index = torch.arange(segment_RT.shape[1], device=segment_RT.device)
    allowed = ((query == key) | (key == 0)) & (index[None, :] <= index[:, None])
    allowed &= query >= 0
    # A padding row looks at itself: softmax over nothing would be NaN.
    allowed |= torch.eye(len(index), dtype=torch.bool, device=segment_RT.device)
    return allowed[:, None]
