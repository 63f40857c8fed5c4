"""What differs between two specs: paths with their value before and after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = object()


def spec_changes(before: Any, after: Any) -> list[dict[str, str]]:
    """`{path, before, after}` for each leaf that differs, in the order of the paths."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        {
            "path": path,
            "before": _text(old.get(path, ABSENT)),
            "after": _text(new.get(path, ABSENT)),
        }
        for path in sorted({*old, *new})
        if old.get(path, ABSENT) != new.get(path, ABSENT)
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def _text(value: Any) -> str:
    return "" if value is ABSENT else json.dumps(value, ensure_ascii=False)
