"""What the form of a comparison needs beside its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from orchestrator.selectors.comparison_form import Draft

register = template.Library()


USUAL = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "max_new_tokens": 0}
"""What `sampling` does where nobody asked for anything."""


@register.filter
def sampling_words(sampling: dict[str, Any]) -> str:
    """How answers were drawn: "4 samples a prompt, temperature 1.0, top_p 0.9"."""
    samples = sampling.get("samples", 1)
    words = [f"{samples} sample{'' if samples == 1 else 's'} a prompt"]
    words += [
        f"{name} {sampling[name]}"
        for name, usual in USUAL.items()
        if name in sampling and (name == "temperature" or sampling[name] != usual)
    ]
    return ", ".join(words)


@register.simple_tag
def problems_of(draft: Draft, kind: str, place: Any, path: str) -> list[str]:
    """What is wrong with `KIND.PLACE`, or with `path` where there is no kind."""
    return draft.problems.get(f"{kind}.{place}" if kind else path, [])
