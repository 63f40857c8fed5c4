"""What the form of a comparison needs beside its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from orchestrator.selectors.comparison_form import Draft

register = template.Library()


@register.simple_tag
def problems_of(draft: Draft, kind: str, place: Any, path: str) -> list[str]:
    """What is wrong with `KIND.PLACE`, or with `path` where there is no kind."""
    return draft.problems.get(f"{kind}.{place}" if kind else path, [])
