"""Look-ups that the pages of specs need: a key that is itself a variable."""

from __future__ import annotations

import re
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

register = template.Library()


@register.filter
def marked(text: str) -> str:
    """Help text with what stands between backticks as code, everything escaped."""
    parts = re.split(r"`([^`]+)`", text)
    tags = ((("<code>", "</code>") if place % 2 else ("", "")) for place in range(len(parts)))
    pieces = zip(tags, parts, strict=True)
    return format_html_join(
        "", "{}{}{}", ((mark_safe(a), part, mark_safe(b)) for (a, b), part in pieces)
    )


@register.filter
def at(mapping: dict[str, Any], key: str) -> Any:
    """The value under a key; None when there is none."""
    return mapping.get(key)


@register.filter
def of(mapping: dict[str, Any], key: str) -> Any:
    """The items of the mapping under a key."""
    return mapping.get(key, {}).items()
