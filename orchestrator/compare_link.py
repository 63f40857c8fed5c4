"""The way from lists of models to the page that compares them, where the product has that page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.urls import NoReverseMatch, reverse

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUTE = "compare_new"
MOST = 50


def compare_address(models: Iterable[str]) -> str | None:
    """Where a comparison of `checkpoint:ID` and `external:ID` begins; None while there is no such page."""
    try:
        page = reverse(ROUTE)
    except NoReverseMatch:
        return None
    names = list(dict.fromkeys(models))[:MOST]
    return f"{page}?with={quote(','.join(names), safe=':,')}"
