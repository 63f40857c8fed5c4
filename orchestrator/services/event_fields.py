"""Fields of what arrives from a node, read one by one: a faulty one raises ValueError with a sentence."""

from __future__ import annotations

import json
import re
from typing import Any

from trainer.events import number_decode, number_encode

NESTING = 64
INTEGER_END = 2**63

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def text_storable(text: str) -> str:
    """Text that PostgreSQL takes: NUL and lone surrogates become the visible U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable(value: Any, depth: int = 0) -> Any:
    """JSON data that PostgreSQL takes: texts as above, non-finite numbers as their strings.

    Raises ValueError for data nested so deeply that whoever reads it might fail.
    """
    if depth > NESTING:
        raise ValueError(f"it is nested more than {NESTING} levels deep")
    if isinstance(value, str):
        return text_storable(value)
    if isinstance(value, float):
        return number_encode(value)
    if isinstance(value, dict):
        return {text_storable(str(key)): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    return value


def integer(event: dict[str, Any], name: str) -> int:
    """A whole number from 0 that a bigint holds."""
    value = event.get(name)
    if not is_count(value):
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number from 0")
    return int(value)  # type: ignore[arg-type]


def is_count(value: Any) -> bool:
    """Whether this is a whole number from 0 that a bigint holds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < INTEGER_END


def number_or_none(value: Any) -> float | None:
    """A number, or None where there is none."""
    return None if value is None else number_decode(value)


def numbers(event: dict[str, Any], name: str) -> list[float | str | None]:
    """A list of numbers, as JSON holds them; [] where there is none."""
    values = event.get(name) or []
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list of numbers")
    return [value if value is None else number_encode(number_decode(value)) for value in values]


def text(value: Any) -> str:
    """A text; a prompt of chat messages is kept as its JSON."""
    if not isinstance(value, str):
        value = json.dumps(storable(value), ensure_ascii=False)
    return text_storable(value)


def shown(value: Any, most: int = 60) -> str:
    """Something that arrived, short and without control characters, for an error sentence."""
    return CONTROL.sub("\ufffd", str(value)[:most])
