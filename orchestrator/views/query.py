"""Read the query of an address: whatever stands there, what comes out is safe to ask the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest

LONGEST = 200


def query_text(request: HttpRequest, name: str) -> str:
    """Text without surrounding space or NUL, which PostgreSQL cannot hold."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:LONGEST]


def query_whole(request: HttpRequest, name: str) -> int | None:
    """A whole number from 0, or None for anything else."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
