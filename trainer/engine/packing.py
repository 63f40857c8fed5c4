"""From answers and their prompts to the rows of a forward pass.

A row holds blocks; a block is a prompt with some of its answers. Each answer sees its prompt and itself
only, positions start again at each block and go on from the prompt at each answer, so that a row's
numbers equal those of separate sequences. Legend: R rows, T row tokens, M scored tokens, B answers of the
micro-batch, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.policy import Policy

ROW_TOKENS = 1024
"""A row takes more answers only up to this length: attention masks grow with its square."""
SHORT_ROW = 64
"""Blocks are packed into rows of this length where all are shorter: too short for its square to matter."""


@dataclass
class Sequences:
    """Answers and the prompts they belong to."""

    prompts: list[list[int]]
    answers: list[list[int]]
    prompt_of: list[int]
    """For each answer the index of its prompt."""
    kept: list[np.ndarray] | None = None
    """For each answer the packed bits (tokens, V / 8) of the tokens that truncated sampling kept."""
    scored: list[list[bool]] | None = None
    """For each answer which of its tokens are scored; None scores all."""


@dataclass(frozen=True)
class Block:
    """A prompt and answers that share it."""

    prompt: int
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """Blocks that stand behind each other."""

    blocks: tuple[Block, ...]
    length: int

    @property
    def answers(self) -> tuple[int, ...]:
        """The answers of all blocks, in order."""
        return tuple(answer for block in self.blocks for answer in block.answers)


def micro_batches(
    sequences: Sequences,
    wanted: Sequence[int],
    *,
    budget: int,
    shared: bool,
    packed: bool = False,
    whole_groups: bool = False,
) -> list[list[Row]]:
    """Rows of the wanted answers in micro-batches of at most `budget` padded tokens (at least one row).

    `shared`: answers of a prompt may share one copy of it. `packed`: short blocks may share a row; it
    needs the same block masks, so that it does nothing without `shared`. With `whole_groups` the answers
    of a prompt stay in one micro-batch, as pairs must.
    """
    units: list[list[Row]] = []
    for prompt, answers in _by_prompt(sequences, wanted).items():
        rows = _rows(sequences, prompt, answers, shared)
        units += [rows] if whole_groups else [[row] for row in rows]
    units.sort(key=lambda rows: -max(row.length for row in rows))
    if packed and shared and units:
        units = _packed(units, min(SHORT_ROW, budget))
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


def exact_rows(sequences: Sequences, rows: list[Row], policy: Policy) -> list[Row]:
    """The rows, or one for each answer where this model cannot have several in a row.

    They may have been planned for another model (the reference follows the policy's plan), and a mask of
    ours would take the place of a sliding window, which only sequences longer than it would notice.
    """
    blocks = [(block, answer) for row in rows for block in row.blocks for answer in block.answers]
    lengths = [
        len(sequences.prompts[block.prompt]) + len(sequences.answers[answer])
        for block, answer in blocks
    ]
    if policy.shared_prefix and not 0 < policy.window < max(lengths):
        return rows
    return [
        Row((Block(block.prompt, (answer,)),), length)
        for (block, answer), length in zip(blocks, lengths, strict=True)
    ]


def padding(rows: Sequence[Row]) -> tuple[float, float]:
    """Cells of a micro-batch that hold no token, and all its cells."""
    cells = len(rows) * max(row.length for row in rows)
    return float(cells - sum(row.length for row in rows)), float(cells)


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
            block = Block(prompt, (*last.answers, answer))
            rows[-1] = Row((block,), last.length + size)
        else:
            rows.append(Row((Block(prompt, (answer,)),), base + size))
    return rows


def _packed(units: list[list[Row]], short: int) -> list[list[Row]]:
    """First fit, longest first, into rows of the longest unit's length, or of `short` where that is better.

    No longer rows than that: attention's cost grows with the square of a row's length, and what packing
    saves is padding, of which these rows leave little. They never have more cells than unpacked ones.
    """
    longest = max(row.length for rows in units for row in rows)
    plans = [_first_fit(units, capacity) for capacity in (longest, max(longest, short))]
    return min(plans, key=lambda plan: padding([row for rows in plan for row in rows])[1])


def _first_fit(units: list[list[Row]], capacity: int) -> list[list[Row]]:
    found: list[list[Row]] = []
    free: list[int] = []
    for rows in units:
        # A group that fills several rows stays as it is.
        length = rows[0].length if len(rows) == 1 else capacity
        place = next((i for i, room in enumerate(free) if len(rows) == 1 and room >= length), None)
        if place is None:
            found.append(rows)
            free.append(capacity - length)
            continue
        (row,) = found[place]
        found[place] = [Row(row.blocks + rows[0].blocks, row.length + length)]
        free[place] -= length
    return found


class Layout:
    """The tensors of a micro-batch."""

    def __init__(
        self, sequences: Sequences, rows: Sequence[Row], wanted: Sequence[int], policy: Policy
    ) -> None:
        place = {answer: index for index, answer in enumerate(wanted)}
        shape = (len(rows), max(row.length for row in rows))
        masked = any(len(row.answers) > 1 for row in rows)
        ids = np.full(shape, policy.pad_id, dtype=np.int64)
        # Without a mask, a position that starts again would be read as the next packed document; with one,
        # a row may be longer than the model has positions.
        position = np.tile(np.arange(shape[1]) * (not masked), (shape[0], 1))
        # Segments number the prompts and answers of a row; an answer's parent is its prompt. -1 is padding.
        segment, parent = np.full(shape, -1), np.full(shape, -1)
        document, extent = np.full(shape, -1), np.ones(shape, dtype=np.int64)
        scored: list[tuple[int, int, int, int, int]] = []
        last = [(0, 0)] * len(wanted)
        self._order: list[tuple[int, Sequence[int]]] = []
        for r, row in enumerate(rows):
            start = number = 0
            for block in row.blocks:
                prompt, root, first = sequences.prompts[block.prompt], number, start
                base = len(prompt)
                start += base
                ids[r, first:start] = prompt
                position[r, first:start] = range(base)
                segment[r, first:start] = parent[r, first:start] = root
                for answer in block.answers:
                    tokens = sequences.answers[answer]
                    end = start + len(tokens)
                    ids[r, start:end] = tokens
                    position[r, start:end] = range(base, base + len(tokens))
                    number += 1
                    segment[r, start:end], parent[r, start:end] = number, root
                    # The first token is predicted at the prompt's last position, each other at the one
                    # before it.
                    source = [first + base - 1, *range(start, end - 1)]
                    chosen = _scored(sequences, answer)
                    scored += [(r, source[t], tokens[t], place[answer], t) for t in chosen]
                    self._order.append((answer, chosen))
                    last[place[answer]] = (r, end - 1 if tokens else first + base - 1)
                    start = end
                document[r, first:start], extent[r, first:start] = block.prompt, start - first
                number += 1
        device = policy.device
        self.ids_RT, self.position_RT, self.document_RT, self.extent_RT = (
            torch.from_numpy(values).to(device) for values in (ids, position, document, extent)
        )
        flat = torch.tensor(scored, dtype=torch.long, device=device).reshape(-1, 5).unbind(1)
        self.row_M, self.source_M, self.target_M, self.answer_M, self.token_M = flat
        ends = torch.tensor(last, dtype=torch.long, device=device).reshape(-1, 2).unbind(1)
        self.last_row_B, self.last_cell_B = ends
        self.mask = None
        if masked:
            allowed = _allowed(torch.from_numpy(segment), torch.from_numpy(parent), device)
            self.mask = policy.mask_for_attention(allowed)

    def kept(self, sequences: Sequences, vocabulary: int) -> torch.Tensor | None:
        """Which vocabulary entries truncated sampling kept at each scored token, (M, V)."""
        if sequences.kept is None:
            return None
        bits = np.concatenate([sequences.kept[answer][chosen] for answer, chosen in self._order])
        flags = np.unpackbits(bits, axis=1, count=vocabulary).astype(bool)
        return torch.from_numpy(flags).to(self.target_M.device)


def _scored(sequences: Sequences, answer: int) -> Sequence[int]:
    """The tokens of an answer that are scored."""
    if sequences.scored is None:
        return range(len(sequences.answers[answer]))
    return [t for t, flag in enumerate(sequences.scored[answer]) if flag]


def _allowed(
    segment_RT: torch.Tensor, parent_RT: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Who may look at whom, (R, 1, T, T): earlier tokens of the own answer and of its prompt."""
    segment_RT, parent_RT = segment_RT.to(device), parent_RT.to(device)
    key = segment_RT[:, None, :]
    index = torch.arange(segment_RT.shape[1], device=device)
    allowed = (segment_RT[:, :, None] == key) | (parent_RT[:, :, None] == key)
    allowed &= (index[None, :] <= index[:, None]) & (key >= 0)
    # A padding cell looks at itself: softmax over nothing would be NaN.
    allowed |= torch.eye(len(index), dtype=torch.bool, device=device)
    return allowed[:, None]
