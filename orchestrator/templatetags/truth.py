"""The figures of one journal as the truth panel shows them: sequence numbers, and how old a count is."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html

from orchestrator.templatetags.figures import clock, figure

register = template.Library()

SILENT = frozenset({"none known", "not delivered"})
"""What missing lines are called while ship is silent."""


def numbers(first: int, last: int) -> str:
    """Sequence numbers from one to another."""
    return figure(first) if first == last else f"{figure(first)} – {figure(last)}"


@register.filter
def received(stream: dict[str, Any]) -> str:
    """The sequence numbers that are stored: all from 1 on."""
    return numbers(1, stream["stored"]) if stream["stored"] else "none"


@register.filter
def missing_more(stream: dict[str, Any]) -> str:
    """Which sequence numbers are missing, and what is known of them."""
    if stream["missing_are"] == "none known":
        return "known; ship is silent"
    if not stream["missing"]:
        return ""
    return f"{numbers(stream['stored'] + 1, stream['known'])}, {stream['missing_are']}"


@register.filter
def silence_level(stream: dict[str, Any]) -> str:
    """A warning for figures that a silent ship leaves behind."""
    return "warning" if stream["missing_are"] in SILENT else ""


@register.filter
def counted_more(stream: dict[str, Any]) -> str:
    """When ship last counted, where that is a while ago."""
    if stream["missing_are"] not in SILENT or stream["counted"] is None:
        return ""
    return format_html("as of {}", clock(stream["counted"]))
