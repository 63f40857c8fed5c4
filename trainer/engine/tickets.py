"""What is asked of a generator's process and what it answers, as headers and raw bytes.

Floating-point numbers travel as float64, so that they are the same to the bit on both sides.
Legend: P prompts, S samples of each.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.engine.sampler import Sampled, Sampling

if TYPE_CHECKING:
    from trainer.engine.seeds import Words
    from trainer.engine.wire import Frame

SERIES = ("logps", "entropies", "log_kept")


@dataclass(frozen=True)
class Ticket:
    """A batch of prompts whose answers are wanted."""

    number: int
    prompts: list[list[int]]
    keys_PS: Words
    how: Sampling
    budget: int
    """Tokens of a chunk of the native engine."""
    urgent: bool = False
    """The trainer waits for it: it goes before those that are drawn ahead."""

    @property
    def answers(self) -> int:
        """How many are wanted."""
        return int(self.keys_PS.size)

    def share(self, number: int, parts: int) -> Ticket:
        """Every `parts`-th prompt from `number` on."""
        mine = list(range(number, len(self.prompts), parts))
        return replace(self, prompts=[self.prompts[i] for i in mine], keys_PS=self.keys_PS[mine])


@dataclass
class Open:
    """A ticket whose answers are not all there."""

    samples: int
    answers: list[Sampled | None]
    missing: set[int]
    """Numbers of the replicas that still work on it."""


def ticket_pack(ticket: Ticket) -> tuple[dict[str, Any], bytes]:
    """As header and body of a frame."""
    header = {
        "op": "submit",
        "ticket": ticket.number,
        "lengths": [len(prompt) for prompt in ticket.prompts],
        "samples": ticket.keys_PS.shape[1],
        "how": asdict(ticket.how),
        "budget": ticket.budget,
        "urgent": ticket.urgent,
    }
    ids = np.fromiter((token for prompt in ticket.prompts for token in prompt), dtype=np.int64)
    return header, np.ascontiguousarray(ticket.keys_PS, np.uint64).tobytes() + ids.tobytes()


def ticket_unpack(frame: Frame) -> Ticket:
    """What `ticket_pack` packed."""
    header, lengths = frame.header, frame.header["lengths"]
    count = len(lengths) * header["samples"]
    keys = np.frombuffer(frame.body, np.uint64, count).reshape(len(lengths), header["samples"])
    ids = np.frombuffer(frame.body, np.int64, offset=8 * count)
    prompts = [piece.tolist() for piece in _pieces(ids, lengths)]
    return Ticket(
        header["ticket"],
        prompts,
        keys,
        Sampling(**header["how"]),
        header["budget"],
        header["urgent"],
    )


def answers_pack(number: int, answers: list[Sampled]) -> tuple[dict[str, Any], bytes]:
    """As header and body of a frame."""
    kept = [answer.kept for answer in answers if answer.kept is not None]
    header = {
        "op": "answers",
        "ticket": number,
        "prompts": [answer.prompt for answer in answers],
        "lengths": [len(answer.tokens) for answer in answers],
        "stopped": [answer.finish_reason == "stop" for answer in answers],
        "kept_width": kept[0].shape[1] if kept else 0,
    }
    columns: list[Any] = [np.array([t for a in answers for t in a.tokens], dtype=np.int64)]
    columns.append(np.array([v for a in answers for v in a.versions or ()], dtype=np.int64))
    for name in SERIES:
        columns.append(np.array([x for a in answers for x in getattr(a, name)], dtype=np.float64))
    body = b"".join(column.tobytes() for column in columns)
    return header, body + b"".join(np.ascontiguousarray(each).tobytes() for each in kept)


def answers_unpack(frame: Frame) -> list[Sampled]:
    """What `answers_pack` packed."""
    header, lengths = frame.header, frame.header["lengths"]
    total, width = sum(lengths), header["kept_width"]
    tokens, versions = (
        _pieces(np.frombuffer(frame.body, np.int64, total, 8 * total * place), lengths)
        for place in range(2)
    )
    series = {
        name: _pieces(np.frombuffer(frame.body, np.float64, total, 8 * total * place), lengths)
        for place, name in enumerate(SERIES, start=2)
    }
    kept: list[Any] = [None] * len(lengths)
    if width:
        bits = np.frombuffer(frame.body, np.uint8, offset=40 * total).reshape(total, width)
        kept = _pieces(bits, lengths)
    return [
        Sampled(
            prompt=header["prompts"][i],
            tokens=tokens[i].tolist(),
            finish_reason="stop" if header["stopped"][i] else "length",
            kept=kept[i],
            versions=versions[i].tolist(),
            **{name: pieces[i].tolist() for name, pieces in series.items()},
        )
        for i in range(len(lengths))
    ]


def _pieces(values: Any, lengths: list[int]) -> list[Any]:
    """A flat array cut into pieces of these lengths."""
    edges = [0, *accumulate(lengths)]
    return [values[first:last] for first, last in pairwise(edges)]
