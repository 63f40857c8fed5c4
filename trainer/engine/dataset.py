"""Rows in memory, encoded once, and a cursor that visits them in an order fixed by the seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.engine.encode import answers_encode, characters_in, prompts_encode, text_of
from trainer.rows import rows_load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.engine.policy import Policy
    from trainer.methods import Curriculum, LearnsFrom, Row
    from trainer.spec import Data, DataSource, RunSpec

ANSWER_COLUMNS: dict[LearnsFrom, tuple[str, ...]] = {
    "rollouts": (),
    "demonstrations": ("completion",),
    "pairs": ("chosen", "rejected"),
    "ratings": ("completion",),
}
VALUE_COLUMNS: dict[LearnsFrom, tuple[str, ...]] = {"ratings": ("rating",)}
"""Columns besides the texts without which a row teaches nothing."""


@dataclass(frozen=True)
class Example:
    """One row, encoded."""

    id: str
    row: Row
    prompt: list[int]
    answers: tuple[list[int], ...]
    """None online, one for a demonstration or a rating, chosen and rejected for a pair."""

    @property
    def text(self) -> str:
        """The prompt as people and rewards read it."""
        return text_of(self.row["prompt"])


@dataclass
class Part:
    """One source: its rows, and after encoding its examples."""

    name: str
    source: DataSource
    rows: list[Row]
    examples: list[Example] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


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
    parts: Sequence[Part], policy: Policy, data: Data, learns_from: LearnsFrom
) -> None:
    """Encode the rows and apply the length limits. Raises ValueError when nothing is left."""
    columns = ANSWER_COLUMNS[learns_from]
    for part in parts:
        prompts = [row["prompt"] for row in part.rows]
        prompt_ids = prompts_encode(policy, prompts)
        answer_ids = [
            answers_encode(policy, prompts, [row[column] for row in part.rows])
            for column in columns
        ]
        for index, row in enumerate(part.rows):
            example = Example(
                id=str(row.get("id", f"{part.name}:{index}")),
                row=row,
                prompt=prompt_ids[index],
                answers=tuple(ids[index] for ids in answer_ids),
            )
            fitted = _fitted(example, data, part)
            if fitted is not None:
                part.examples.append(fitted)
        if not part.examples:
            raise ValueError(
                f"{part.name}: no row is left after the limits "
                f"({', '.join(f'{why}: {count}' for why, count in part.dropped.items())})"
            )


def _fitted(example: Example, data: Data, part: Part) -> Example | None:
    if not example.prompt:
        part.dropped["prompt without tokens"] = part.dropped.get("prompt without tokens", 0) + 1
        return None
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
        part.dropped[reason] = part.dropped.get(reason, 0) + 1
        return None
    prompt = example.prompt[: data.max_prompt_tokens]
    room = data.max_tokens - len(prompt)
    return Example(example.id, example.row, prompt, tuple(ids[:room] for ids in example.answers))


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
