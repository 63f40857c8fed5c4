"""Look through an uploaded file: every row is read, and what its columns hold is counted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.services.event_fields import storable, text_storable
from trainer.conversations import is_chat
from trainer.tables import format_of, table_rows

if TYPE_CHECKING:
    from pathlib import Path

PREVIEW_ROWS = 20
COLUMNS_MOST = 256
COLUMN_NAME_MOST = 200
TEXT_MOST = 2000
"""Characters of a text in the preview; less in files of many columns."""
ROW_MOST = 24_000
TEXT_LEAST = 80
ITEMS_MOST = 40
DEPTH_MOST = 6
UNPACKED_TIMES = 8
"""A packed file may grow this many times over: more is refused, it may be made to fill the disk."""


@dataclass
class Column:
    """What the rows hold under one name."""

    rows: int = 0
    empty: int = 0
    text: int = 0
    chat: int = 0
    dialogs: int = 0
    """Conversations that end with an answer of the assistant."""
    chars: int = 0
    longest: int = 0
    other: str = ""
    """What the first value is that is neither text nor chat."""
    other_row: int = 0


@dataclass
class Looked:
    """What a file holds."""

    rows: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    preview: list[dict[str, Any]] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The columns as JSON."""
        return {name: vars(column) for name, column in self.columns.items()}


def file_look(path: Path, *, most_bytes: int) -> Looked:
    """Read all of a file. Raises ValueError with one sentence that says where it is wrong."""
    looked = Looked()
    # JSON is read as a whole, so it may not grow: it would have to fit into memory.
    grown = most_bytes if format_of(path) == "json" else most_bytes * UNPACKED_TIMES
    first: list[dict[str, Any]] = []
    for row in table_rows(path, most_bytes=grown):
        looked.rows += 1
        for name, value in row.items():
            column = looked.columns.get(name)
            if column is None:
                column = looked.columns[name] = _column_new(name, path, looked)
            _count(column, value, looked.rows)
        if len(first) < PREVIEW_ROWS:
            first.append(row)
    if not looked.rows:
        raise ValueError(f"{path}: holds no rows")
    if not looked.columns:
        raise ValueError(f"{path}: its rows hold nothing")
    limit = max(TEXT_LEAST, min(TEXT_MOST, ROW_MOST // len(looked.columns)))
    looked.preview = [{name: shortened(row[name], limit) for name in row} for row in first]
    return looked


def _column_new(name: str, path: Path, looked: Looked) -> Column:
    if not name.strip():
        raise ValueError(f"{path}: row {looked.rows}: a column has no name")
    if len(name) > COLUMN_NAME_MOST or text_storable(name) != name:
        shown = text_storable(name)[:60]
        raise ValueError(
            f"{path}: row {looked.rows}: '{shown}…' cannot be a column's name: use up to "
            f"{COLUMN_NAME_MOST} characters, without NUL"
        )
    if len(looked.columns) == COLUMNS_MOST:
        raise ValueError(
            f"{path}: row {looked.rows}: more than {COLUMNS_MOST} different columns; put what varies "
            "from row to row into one column"
        )
    return Column()


def _count(column: Column, value: Any, row: int) -> None:
    column.rows += 1
    if value is None or value in ("", []):
        column.empty += 1
        return
    length = 0
    if isinstance(value, str):
        column.text += 1
        length = len(value)
    elif is_chat(value):
        column.chat += 1
        column.dialogs += len(value) > 1 and value[-1]["role"] == "assistant"
        length = sum(len(message["content"]) for message in value)
    elif not column.other:
        column.other, column.other_row = _kind_of(value), row
    column.chars += length
    column.longest = max(column.longest, length)


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    kinds |= {list: "a list that is not chat messages", bytes: "bytes"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def shortened(value: Any, limit: int, depth: int = 0) -> Any:
    """A value as JSON that PostgreSQL takes, with long texts and lists cut; what is left out is said."""
    if isinstance(value, str):
        more = len(value) - limit
        text = value if more <= 0 else f"{value[:limit]}… (+{more:,} characters)"
        return text_storable(text)
    if isinstance(value, (dict, list)) and depth == DEPTH_MOST:
        return "…"
    if isinstance(value, dict):
        inside = max(TEXT_LEAST, limit // 2) if depth else limit
        kept = list(value.items())[:ITEMS_MOST]
        found = {
            shortened(str(key), TEXT_LEAST): shortened(item, inside, depth + 1)
            for key, item in kept
        }
        return found | ({"…": f"+{len(value) - len(kept)}"} if len(value) > len(kept) else {})
    if isinstance(value, list):
        cut = [
            shortened(item, max(TEXT_LEAST, limit // 2), depth + 1) for item in value[:ITEMS_MOST]
        ]
        return cut + ([f"… (+{len(value) - ITEMS_MOST})"] if len(value) > ITEMS_MOST else [])
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if value is None or isinstance(value, (bool, int, float)):
        return storable(value)
    return shortened(_text_of(value), limit)


def _text_of(value: Any) -> str:
    """Dates, decimals and what else a Parquet file may hold."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)
