"""Rows in memory, encoded once, and a cursor that visits them in an order fixed by the seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.engine.chat import UNTRAINED, Unusable
from trainer.engine.encode import (
    BadRow,
    answers_encode,
    characters_in,
    conversation,
    prompts_encode,
    text_of,
    turns_encode,
)
from trainer.rows import rows_load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.engine.chat import Messages
    from trainer.engine.policy import Policy
    from trainer.methods import Curriculum, LearnsFrom, Row
    from trainer.spec import Data, DataSource, RunSpec

ANSWER_COLUMNS: dict[LearnsFrom, tuple[str, ...]] = {
    "rollouts": (),
    "demonstrations": ("completion",),
    "pairs": ("chosen", "rejected"),
    "labels": ("completion",),
    "ratings": ("completion",),
}
VALUE_COLUMNS: dict[LearnsFrom, tuple[str, ...]] = {"labels": ("label",), "ratings": ("rating",)}
"""Columns besides the texts without which a row teaches nothing."""


@dataclass(frozen=True)
class Example:
    """One row, encoded."""

    id: str
    row: Row
    prompt: list[int]
    answers: tuple[list[int], ...]
    """None online, one for a demonstration or a rating, chosen and rejected for a pair."""
    trained: list[bool] | None = None
    """Which tokens of a demonstration are trained on; None for all."""

    @property
    def text(self) -> str:
        """The prompt as people and rewards read it."""
        return text_of(self.row["prompt"])

    @property
    def trained_tokens(self) -> int:
        """Answer tokens that are trained on."""
        if self.trained is not None:
            return sum(self.trained)
        return sum(len(ids) for ids in self.answers)


@dataclass
class Part:
    """One source: its rows, and after encoding its examples."""

    name: str
    source: DataSource
    rows: list[Row]
    examples: list[Example] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    """Why rows, by their number, became no examples."""


def parts_load(
    sources: Sequence[DataSource],
    *,
    seed: int,
    learns_from: LearnsFrom,
    datasets: Mapping[str, Path],
) -> list[Part]:
    """The rows of every source. Raises ValueError that says what to change."""
    columns = (*ANSWER_COLUMNS[learns_from], *VALUE_COLUMNS.get(learns_from, ()))
    wanted = frozenset({"prompt", *columns})
    parts: list[Part] = []
    for source in sources:
        loaded = rows_load(source, seed=seed, wanted=wanted, datasets=datasets)
        name = _name(source, {part.name for part in parts})
        parts.append(Part(name, source, loaded.rows, dropped=dict(loaded.dropped)))
    return parts


def _name(source: DataSource, taken: set[str]) -> str:
    """Name of a source in metrics: the file's stem, or the source's own name."""
    stem = re.sub(r"(\.(jsonl?|csv|tsv|parquet|gz))+$", "", source.source.rsplit("/", 1)[-1])
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-") or "data"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def parts_encode(
    parts: Sequence[Part],
    policy: Policy,
    data: Data,
    learns_from: LearnsFrom,
    *,
    may_be_empty: bool = False,
) -> None:
    """Encode the rows and apply the length limits. Raises ValueError when nothing is left, unless that may be."""
    by_turns = learns_from == "demonstrations" and data.train_on == "assistant"
    for part in parts:
        chats = [
            conversation(row["prompt"], row["completion"]) if by_turns else None
            for row in part.rows
        ]
        plain = [index for index, chat in enumerate(chats) if chat is None]
        found = dict(
            zip(plain, _encoded(part, plain, policy, ANSWER_COLUMNS[learns_from]), strict=True)
        )
        for index, chat in enumerate(chats):
            made = found[index] if chat is None else _by_turns(part, index, policy, chat)
            fitted = _fitted(made, data, part) if isinstance(made, Example) else made
            if isinstance(fitted, Example):
                part.examples.append(fitted)
            else:
                part.dropped[str(fitted)] = part.dropped.get(str(fitted), 0) + 1
                part.left_out[index] = str(fitted)
        if not part.examples and not may_be_empty:
            raise ValueError(
                f"{part.name}: no row is left "
                f"({', '.join(f'{why}: {count}' for why, count in part.dropped.items())})"
            )


def _encoded(
    part: Part, indices: Sequence[int], policy: Policy, columns: Sequence[str]
) -> list[Example | Unusable]:
    """Prompts alone, and each answer behind them."""
    rows = [part.rows[index] for index in indices]
    prompts = [row["prompt"] for row in rows]
    try:
        prompt_ids = prompts_encode(policy, prompts)
        answer_ids = [
            answers_encode(policy, prompts, [row[column] for row in rows]) for column in columns
        ]
    except BadRow as error:
        name = _id(part, indices[error.index])
        raise ValueError(f"{part.name}: row {name}: {error}") from error
    found: list[Example | Unusable] = []
    for place, index in enumerate(indices):
        answers = [ids[place] for ids in answer_ids]
        failed = next((answer for answer in answers if isinstance(answer, Unusable)), None)
        tokens = tuple(answer for answer in answers if not isinstance(answer, Unusable))
        example = Example(_id(part, index), rows[place], prompt_ids[place], tokens)
        found.append(example if failed is None else failed)
    return found


def _by_turns(part: Part, index: int, policy: Policy, chat: Messages) -> Example | Unusable:
    """A conversation, all turns of the assistant trained on."""
    try:
        turns = turns_encode(policy, chat)
    except Unusable as reason:
        return reason
    except ValueError as error:
        raise ValueError(f"{part.name}: row {_id(part, index)}: {error}") from error
    row = part.rows[index]
    return Example(_id(part, index), row, turns.prompt, (turns.answer,), turns.trained)


def _id(part: Part, index: int) -> str:
    return str(part.rows[index].get("id", f"{part.name}:{index}"))


def _fitted(example: Example, data: Data, part: Part) -> Example | Unusable:
    """The example within the limits, or why it is left out."""
    if not example.prompt:
        return Unusable("prompt without tokens")
    longest = max((len(ids) for ids in example.answers), default=0)
    reason = ""
    if len(example.prompt) > data.max_prompt_tokens:
        reason = f"prompt over data.max_prompt_tokens = {data.max_prompt_tokens}"
    elif len(example.prompt) + longest > data.max_tokens:
        reason = f"row over data.max_tokens = {data.max_tokens}"
    if not reason:
        return example
    if data.overlong == "error":
        raise ValueError(f"{part.name}: row {example.id}: {reason}")
    if data.overlong == "drop":
        return Unusable(reason)
    prompt = example.prompt[: data.max_prompt_tokens]
    room = data.max_tokens - len(prompt)
    trained = None if example.trained is None else example.trained[:room]
    if trained is not None and not any(trained):
        return Unusable(UNTRAINED)
    answers = tuple(ids[:room] for ids in example.answers)
    return Example(example.id, example.row, prompt, answers, trained)


class Cursor:
    """Visits the rows of all parts: parts by weight, rows by the curriculum, without end.

    Its whole state is how many rows of each part were visited, so that resuming is exact.
    """

    def __init__(self, parts: Sequence[Part], curriculum: Curriculum, seed: int) -> None:
        self._parts = parts
        self._curriculum = curriculum
        self._seed = seed
        self._orders: dict[int, tuple[int, Sequence[int]]] = {}

    def take(self, visited: list[int], count: int) -> tuple[list[Example], list[int]]:
        """The next `count` examples behind `visited`, and the new state."""
        visited = list(visited)
        taken: list[Example] = []
        for _ in range(count):
            part = self._next_part(visited)
            examples = self._parts[part].examples
            epoch, place = divmod(visited[part], len(examples))
            taken.append(examples[self._order(part, epoch)[place]])
            visited[part] += 1
        return taken, visited

    def start(self) -> list[int]:
        """The state before the first row."""
        return [0] * len(self._parts)

    def epoch(self, visited: Sequence[int]) -> float:
        """Rows visited over rows there are."""
        return sum(visited) / self.rows

    def orders(self, visited: Sequence[int]) -> list[Sequence[int]]:
        """The order of the rows of each part in the epoch that it is in."""
        rows = [len(part.examples) for part in self._parts]
        return [self._order(i, v // n) for i, (v, n) in enumerate(zip(visited, rows, strict=True))]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(len(part.examples) for part in self._parts)

    def _next_part(self, visited: Sequence[int]) -> int:
        """The part that is furthest behind its weight."""
        total = sum(visited) + 1
        weights = [part.source.weight for part in self._parts]
        behind = [w / sum(weights) * total - v for w, v in zip(weights, visited, strict=True)]
        return behind.index(max(behind))

    def _order(self, part: int, epoch: int) -> Sequence[int]:
        known = self._orders.get(part)
        if known is None or known[0] != epoch:
            seed = self._seed + 1_000_003 * part
            count = len(self._parts[part].examples)
            known = (epoch, self._curriculum.order(count, epoch, seed))
            self._orders[part] = known
        return known[1]


def dropped_summary(parts: Sequence[Part]) -> dict[str, Any]:
    """What was left out, for the run's status."""
    return {part.name: part.dropped for part in parts if part.dropped}


def characters_of(specs: Sequence[RunSpec], parts: Sequence[Part]) -> str:
    """Every character that the built-in sources and the loaded rows hold."""
    found: set[str] = set()
    for spec in specs:
        for source in (*spec.data.train, *spec.data.eval):
            method = registry.family("data").get(source.source)
            if method is not None and issubclass(method, registry.Source):
                found |= set(method(type=source.source, **source.options).characters())  # type: ignore[call-arg]
    for part in parts:
        for row in part.rows:
            for column in ("prompt", "completion", "chosen", "rejected", "answer"):
                if column in row:
                    found |= characters_in(row[column])
    return "".join(sorted(found))
