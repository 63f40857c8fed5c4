"""The preview of a dataset as cells of a page: text, chat messages, or a value as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.dataset_serves import OURS, read_as, suggestions_of
from trainer.conversations import is_chat

if TYPE_CHECKING:
    from orchestrator.models import Dataset

LONG = 320
"""Characters or ten lines: beyond that a cell is folded."""
LONG_LINES = 8
NARROW = 24


@dataclass(frozen=True)
class Cell:
    """One value of a row."""

    label: str
    kind: str
    """missing, empty, text, chat or value."""
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def folded(self) -> bool:
        """Whether only its beginning is shown at first."""
        size = len(self.text) + sum(len(text) for _, text in self.messages)
        lines = self.text.count("\n") + sum(text.count("\n") + 2 for _, text in self.messages)
        return size > LONG or lines >= LONG_LINES


@dataclass(frozen=True)
class ColumnCard:
    """What the page tells of a column."""

    name: str
    ours: str
    """What it is called here, "" for its own name."""
    suggested: str
    read_as: str
    """What the trainer takes it for by itself."""
    kind: str
    rows: int
    empty: int
    mean: float | None
    longest: int
    choices: tuple[str, ...]
    wide: bool
    missing: int


def preview_rows(dataset: Dataset) -> list[list[Cell]]:
    """The first rows, one cell for each column."""
    return [[_cell(name, row) for name in dataset.columns] for row in dataset.preview]


def column_cards(dataset: Dataset) -> list[ColumnCard]:
    """What each column holds, and what it may be renamed to."""
    return [_card(name, dataset) for name in dataset.columns]


def _card(name: str, dataset: Dataset) -> ColumnCard:
    facts = dataset.facts.get(name, {})
    rows = facts.get("rows", dataset.rows)
    long_ones = facts.get("text", 0) + facts.get("chat", 0)
    ours = dataset.mapping.get(name, "")
    kinds = [word for word in ("text", "chat") if facts.get(word)]
    if facts.get("other"):
        kinds.append(facts["other"])
    return ColumnCard(
        name=name,
        ours=ours,
        suggested=suggestions_of(dataset).get(name, ""),
        read_as="prompt" if name == read_as(dataset, "prompt") else "",
        kind=" and ".join(kinds) or "nothing",
        rows=rows,
        empty=facts.get("empty", 0),
        mean=facts["chars"] / long_ones if long_ones else None,
        longest=facts.get("longest", 0),
        choices=(*OURS, *([ours] if ours and ours not in OURS else [])),
        wide=facts.get("longest", NARROW + 1) > NARROW,
        missing=dataset.rows - rows,
    )


def _cell(name: str, row: dict[str, Any]) -> Cell:
    if name not in row:
        return Cell(name, "missing")
    value = row[name]
    if value is None or value in ("", []):
        return Cell(name, "empty", text="null" if value is None else json.dumps(value))
    if isinstance(value, str):
        return Cell(name, "text", text=value)
    if is_chat(value):
        told = tuple((message["role"], message["content"]) for message in value)
        return Cell(name, "chat", messages=told)
    return Cell(name, "value", text=json.dumps(value, ensure_ascii=False, indent=1))
