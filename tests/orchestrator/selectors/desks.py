"""A page's form without a server: drawn to HTML, read as a browser reads it, posted back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.template.loader import render_to_string

from orchestrator.selectors.spec_desk import desk_open, desk_read
from orchestrator.selectors.spec_start import Start, start_from
from orchestrator.selectors.spec_text import spec_read
from tests.orchestrator.posted import fields_of

if TYPE_CHECKING:
    from orchestrator.selectors.spec_desk import Desk
    from tests.orchestrator.posted import Fields


def shown(desk: Desk) -> str:
    """The fields of a desk as HTML."""
    return render_to_string("new_run/form.html", {"desk": desk, "lists": {}})


def opened(raw: dict[str, Any] | str) -> Fields:
    """What a browser holds after the page was opened with a spec, given as data or as TOML."""
    return fields_of(shown(desk_open(Start(spec_read(raw) if isinstance(raw, str) else raw))))


def recipe(name: str) -> Fields:
    """What a browser holds after a recipe was opened."""
    return fields_of(shown(desk_open(start_from({"recipe": name}))))


def typed(fields: Fields, **values: str) -> Fields:
    """The same fields after somebody typed: `typed(fields, batch__prompts_per_step="32")`."""
    return {**fields, **{name.replace("__", "."): [value] for name, value in values.items()}}


def posted(fields: Fields, **values: str) -> Desk:
    """The desk after these fields, with these typed over, were sent."""
    return desk_read(typed(fields, **values))


def again(desk: Desk) -> Fields:
    """What a browser holds after the server's answer was swapped in."""
    return fields_of(shown(desk))
