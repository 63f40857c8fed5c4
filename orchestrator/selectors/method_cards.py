"""The catalogue as its page shows it: families with their methods, then the sections of the spec."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.selectors.fitting import methods_of
from orchestrator.selectors.knob_text import number_text, text_of
from orchestrator.selectors.run_words import ChartPlan, chart_plan
from orchestrator.selectors.spec_schema import top_knobs
from trainer import catalog, recipebook

if TYPE_CHECKING:
    from trainer.catalog import Entry, Knob, SectionEntry
    from trainer.recipebook import Recipe

LEARNS_FROM = {
    "rollouts": "its own sampled answers",
    "pairs": "pairs of a chosen and a rejected answer",
    "demonstrations": "demonstrated answers",
    "labels": "answers labelled good or bad",
    "ratings": "rated answers",
}
NEEDS = {
    "reference": "a reference model",
    "reward": "a reward",
    "entropy": "the policy's entropy",
    "sampled-entropy": "the entropies of sampled tokens",
    "collision": "the policy's sum of squared probabilities",
    "critic": "a critic",
    "score-head": "a model that ends in a score",
    "group": "several answers to each prompt",
    "greedy": "the greedy answer to each prompt",
}
PICKED = {"method": "one of", "methods": "any of", "section": "section", "sections": "sections"}
"""Knobs that hold a method or a section: the page links to where those are described."""


@dataclass(frozen=True)
class KnobLine:
    """One knob in words."""

    knob: Knob
    default: str
    allowed: str
    link: str
    """The anchor of what this knob holds, or ""."""


@dataclass(frozen=True)
class MethodCard:
    """One method."""

    entry: Entry
    anchor: str
    knobs: list[KnobLine]
    charts: list[ChartPlan]
    learns_from: str
    needs: list[str]
    launch: str
    """What the new-run page takes as `type`, or "" for a method that no run names directly."""
    recipes: list[Recipe]


@dataclass(frozen=True)
class Family:
    """One family of methods."""

    name: str
    about: str
    methods: list[MethodCard]

    @property
    def groups(self) -> list[tuple[str, list[MethodCard]]]:
        """The methods below what they learn from; one group without a heading where none says."""
        found: dict[str, list[MethodCard]] = {}
        for method in self.methods:
            found.setdefault(method.learns_from, []).append(method)
        order = ["", *LEARNS_FROM.values()]
        known = [(words, found.pop(words)) for words in order if words in found]
        return [*known, *found.items()]


@dataclass(frozen=True)
class SectionCard:
    """One section of the spec."""

    anchor: str
    title: str
    about: str
    knobs: list[KnobLine]


def families() -> list[Family]:
    """Every family that has a method, in the catalogue's order."""
    recipes = [(recipe, methods_of(recipe.spec)) for recipe in recipebook.recipes()]
    found: dict[str, list[MethodCard]] = {}
    for entry in catalog.catalog():
        key = f"{entry.family}/{entry.type}"
        users = [recipe for recipe, used in recipes if key in used]
        found.setdefault(entry.family, []).append(_card(entry, users))
    return [Family(name, _about(name), methods) for name, methods in found.items()]


def sections() -> list[SectionCard]:
    """The sections of the spec that have knobs, its own top level first."""
    return [_section(section) for section in catalog.spec_sections() if section.knobs]


def _section(section: SectionEntry) -> SectionCard:
    title = f"[{section.name}]" if section.name else "top level"
    return SectionCard(
        f"spec/{section.name or 'top'}", title, section.summary, [_line(k) for k in section.knobs]
    )


def _card(entry: Entry, recipes: list[Recipe]) -> MethodCard:
    return MethodCard(
        entry=entry,
        anchor=f"{entry.family}/{entry.type}",
        knobs=[_line(knob) for knob in entry.knobs],
        charts=[chart_plan(item) for item in entry.charts],
        learns_from=LEARNS_FROM.get(entry.learns_from, entry.learns_from),
        needs=[NEEDS.get(need, need) for need in entry.needs],
        launch=f"{entry.family}/{entry.type}" if _launchable(entry) else "",
        recipes=recipes,
    )


def _launchable(entry: Entry) -> bool:
    """Whether the new-run page can put this method into a spec by its name alone."""
    slots = (knob for knob in top_knobs().values() if knob.of == entry.family)
    return entry.role == "source" or any(knob.kind in ("method", "methods") for knob in slots)


def _line(knob: Knob) -> KnobLine:
    link = ""
    if knob.kind in PICKED and knob.of:
        link = f"spec/{knob.of}" if knob.kind.startswith("section") else f"family-{knob.of}"
    return KnobLine(knob, _default(knob), _allowed(knob), link)


def _default(knob: Knob) -> str:
    if knob.required:
        return "required"
    if isinstance(knob.default, bool):
        return "on" if knob.default else "off"
    if knob.kind == "section":
        return ""
    if isinstance(knob.default, dict) and "type" in knob.default:
        return str(knob.default["type"])
    if knob.default in (None, "", [], {}):
        return "empty" if knob.default == "" else "none"
    return text_of(knob, knob.default)


def _allowed(knob: Knob) -> str:
    if knob.kind in PICKED:
        return f"{PICKED[knob.kind]} {knob.of}"
    if knob.kind == "boolean":
        return "on or off"
    words = [str(choice) for choice in knob.choices]
    low, high = knob.minimum, knob.maximum
    both = low is not None and high is not None
    if words and knob.kind in ("integer", "number") and low is None and high is None:
        words.append("a whole number" if knob.kind == "integer" else "a number")
    if both and not knob.minimum_excluded and not knob.maximum_excluded:
        words.append(f"{_bound(low)} to {_bound(high)}")
    else:
        if low is not None:
            words.append(f"{'>' if knob.minimum_excluded else '≥'} {_bound(low)}")
        if high is not None:
            words.append(f"{'<' if knob.maximum_excluded else '≤'} {_bound(high)}")
    return ", ".join(words) or ("any" if knob.kind in ("integer", "number") else knob.kind)


def _bound(value: float | None) -> str:
    assert value is not None
    return str(int(value)) if value == int(value) else number_text(value)


def _about(family: str) -> str:
    return (sys.modules[f"trainer.{family}"].__doc__ or "").strip().partition("\n")[0]
