"""Look-ups that the pages of specs need: a key that is itself a variable."""

from __future__ import annotations

from typing import Any

from django import template

register = template.Library()


@register.filter
def at(mapping: dict[str, Any], key: str) -> Any:
    """The value under a key; None when there is none."""
    return mapping.get(key)


@register.filter
def of(mapping: dict[str, Any], key: str) -> Any:
    """The items of the mapping under a key."""
    return mapping.get(key, {}).items()
