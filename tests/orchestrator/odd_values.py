"""Values that nobody expects, and where in a body they can be put."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD_JSON: tuple[Any, ...] = (
    *(None, True, -1, 2**63, 1e308, "", "\x00", "\ud800", "x" * 3000),
    *([], {}, [[]], {"type": "exact-match"}, ["checkpoint:"]),
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to every value that is inside of another one."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in parts:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from leaves(inner, (*path, key))
