"""What a spec is made of, as the form walks it: knobs of sections, methods of families."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from trainer import catalog, registry
from trainer.spec import RunSpec, with_default_advantage

if TYPE_CHECKING:
    from trainer.catalog import Entry, Knob

DEFAULT_ADVANTAGE = "advantage"
"""The one family whose default depends on another: the spec fills it in for online objectives."""


@cache
def top_knobs() -> dict[str, Knob]:
    """The knobs of the spec's top level by name, in its order."""
    return {knob.name: knob for knob in catalog.knobs_of(RunSpec)}


@cache
def section_knobs(name: str) -> tuple[Knob, ...]:
    """The knobs of a section, named as `Knob.of` names it."""
    return next(entry.knobs for entry in catalog.spec_sections() if entry.name == name)


@cache
def methods_of(family: str, role: str = "") -> dict[str, Entry]:
    """The methods of a family by type; of one role where two share the folder."""
    entries = [catalog.entry_of(family, tag) for tag in registry.family(family)]
    return {entry.type: entry for entry in entries if role in ("", entry.role)}


@cache
def built_in_sources() -> dict[str, Entry]:
    """The sources of rows that need no file, by type."""
    return methods_of("data", "source")


def default_type(knob: Knob, objective: Entry | None) -> str:
    """The type that a method knob has when nobody chose one; "" for none."""
    if isinstance(knob.default, dict):
        return str(knob.default.get("type", ""))
    if knob.name == DEFAULT_ADVANTAGE and objective and objective.learns_from == "rollouts":
        # The spec's own rule, asked rather than repeated.
        filled = with_default_advantage({"objective": {"type": objective.type}})
        return str(filled["advantage"]["type"])
    return ""


def default_items(knob: Knob) -> list[dict[str, Any]]:
    """The items of a list that nobody touched, without what their own defaults say anyway."""
    if knob.kind != "sections":
        return [dict(item) for item in knob.default or ()]
    inner = {one.name: one for one in section_knobs(knob.of)}
    return [
        {
            name: value
            for name, value in item.items()
            if value != inner[name].default or (inner[name].basic and inner[name].kind == "text")
        }
        for item in knob.default or ()
    ]


def objective_of(raw: dict[str, Any]) -> Entry | None:
    """The objective that a draft names, or the default one; None when there is no such method."""
    chosen = raw.get("objective")
    tag = chosen.get("type") if isinstance(chosen, dict) else None
    tag = tag or default_type(top_knobs()["objective"], None)
    return methods_of("objectives").get(str(tag))
