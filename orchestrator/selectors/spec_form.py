"""The form of a spec as a tree: sections, groups and fields, read from the knob classes.

Nothing here knows a method by name: a file dropped into a family appears with its knobs and help.
Ids are spec paths: `objective.clip_low`, `rewards.0.weight`, `data.train.0.source`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.knob_text import UNSET, number_text, same, text_of, value_of
from orchestrator.selectors.method_cards import LEARNS_FROM
from orchestrator.selectors.spec_post import COUNT, SCALARS, WAS
from orchestrator.selectors.spec_schema import (
    built_in_sources,
    default_items,
    default_type,
    methods_of,
    section_knobs,
    top_knobs,
)
from orchestrator.selectors.spec_silence import Facts, facts_of, optional_note, silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trainer.catalog import Entry, Knob

SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("run", "Run", ("name", "kind", "seed")),
    ("model", "Model", ("model", "reference", "adapter", "play")),
    ("data", "Data", ("data", "curriculum")),
    ("method", "Method", ("objective", "advantage")),
    ("rewards", "Rewards", ("rewards",)),
    ("rollout", "Rollout", ("rollout", "correction", "guidance")),
    ("optimizer", "Optimizer", ("optimizer", "schedule")),
    ("batch", "Batch", ("batch",)),
    ("budget", "Budget", ("budget",)),
    ("evaluation", "Evaluation", ("evaluation", "diagnostics")),
    ("checkpoint", "Checkpoints", ("checkpoint",)),
    ("resources", "Resources", ("resources",)),
)
"""In reading order; what the spec gains later lands in a last section, "More"."""

_PICKED = {"model.name": "models", "reference.name": "models", "source": "data"}
"""Fields that name something that exists: they offer a list of it."""
_SMALL = 2


@dataclass
class Field:
    """One knob as a form field."""

    path: str
    knob: Knob
    text: str
    """As typed; "" when the default holds (choices show the default itself)."""
    placeholder: str = ""
    changed: bool = False
    options: list[tuple[str, str]] = field(default_factory=list)
    grouped: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    """The same options below headings, where there are many."""
    picks: str = ""
    """Which list of existing things this field offers: "models", "reward_models", "data" or ""."""
    swaps: bool = False
    """Whether a new value changes which fields there are."""
    silent: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def widget(self) -> str:
        """Which template partial draws it."""
        if self.knob.kind in ("choice", "boolean", "mapping"):
            return self.knob.kind
        return "pick" if self.picks else "line"

    @property
    def range(self) -> str:
        """The bounds, as people write them."""
        knob, sides = self.knob, []
        if knob.minimum is not None and (knob.minimum != 0 or knob.minimum_excluded):
            sides.append(f"{'>' if knob.minimum_excluded else '≥'} {number_text(knob.minimum)}")
        # The end of a 32-bit number is no advice to anyone.
        if knob.maximum is not None and knob.maximum < 2**31:
            sides.append(f"{'<' if knob.maximum_excluded else '≤'} {number_text(knob.maximum)}")
        return ", ".join(sides)


@dataclass
class Group:
    """The knobs of one section or method, with what folds away and what lies below."""

    path: str
    title: str = ""
    help: str = ""
    selector: Field | None = None
    was: str = ""
    """The type whose knobs are shown."""
    entry: Entry | None = None
    shown: list[Field] = field(default_factory=list)
    folded: list[Field] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    is_list: bool = False
    is_item: bool = False
    adds: list[tuple[str, str, str]] = field(default_factory=list)
    """What can be added to this list: type, label, what it does."""
    silent: str = ""
    note: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def changed_folded(self) -> int:
        """How many folded knobs are not at their default."""
        return sum(one.changed for one in self.folded)

    @property
    def opened(self) -> bool:
        """Whether a folded field needs to be seen."""
        return any(one.problems for one in self.folded)

    @property
    def count_name(self) -> str:
        """The hidden field that says how many items were shown."""
        return self.path + COUNT

    @property
    def was_name(self) -> str:
        """The hidden field that says which type was shown."""
        return self.path + WAS

    def walk(self) -> Iterable[Group]:
        """This group and all below it."""
        yield self
        for group in self.groups:
            yield from group.walk()


@dataclass
class Section:
    """A heading of the form."""

    id: str
    title: str
    groups: list[Group]

    def _fields(self) -> Iterable[Field]:
        for top in self.groups:
            for group in top.walk():
                yield from (*group.shown, *group.folded)

    @property
    def silent(self) -> str:
        """A sentence when the whole section has no effect."""
        return self.groups[0].silent if all(group.silent for group in self.groups) else ""

    @property
    def changed(self) -> int:
        """How many of its knobs are not at their default."""
        return 0 if self.silent else sum(one.changed for one in self._fields())

    @property
    def wrong(self) -> int:
        """How many of its places have a problem."""
        return sum(bool(one.problems) for one in self._fields()) + sum(
            bool(group.problems) for top in self.groups for group in top.walk()
        )


@dataclass
class Form:
    """The whole form."""

    sections: list[Section]
    problems: list[str]
    """Those that belong to no field."""


def form_of(
    raw: Mapping[str, Any], problems: Sequence[tuple[str, str]] = (), kept: Any = None
) -> Form:
    """The form that shows a draft, with each problem `(path, message)` at its place."""
    builder = _Builder(facts_of(dict(raw)))
    left = dict(top_knobs())
    sections = []
    for identity, title, names in SECTIONS:
        knobs = [left.pop(name) for name in names if name in left]
        if groups := builder.top_groups(knobs, raw):
            sections.append(Section(identity, title, groups))
    if left:
        sections.append(Section("more", "More", builder.top_groups(list(left.values()), raw)))
    return Form(sections, _placed(sections, problems))


class _Builder:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def top_groups(self, knobs: Sequence[Knob], raw: Mapping[str, Any]) -> list[Group]:
        """Knobs of the spec's top level: its scalars share one group."""
        groups: list[Group] = []
        scalars = [knob for knob in knobs if knob.kind in SCALARS]
        for knob in knobs:
            if knob not in scalars:
                groups.append(self.group(knob, knob.name, raw.get(knob.name, UNSET)))
        if scalars:
            own = Group(path="")
            own.shown = [self.field(knob, "", raw.get(knob.name, UNSET)) for knob in scalars]
            groups.append(own)
        return groups

    def group(self, knob: Knob, path: str, value: Any) -> Group:
        """What one knob that is more than a scalar becomes."""
        made = {
            "section": self.section,
            "method": self.method,
            "methods": self.items,
            "sections": self.items,
        }[knob.kind](knob, path, value)
        made.title = made.title or knob.name
        made.help = made.help or knob.help
        made.silent = silence(path, self.facts)
        made.note = optional_note(path, self.facts)
        return made

    def section(self, knob: Knob, path: str, value: Any) -> Group:
        """The knobs of a section."""
        group = Group(path)
        self.fill(group, section_knobs(knob.of), value if isinstance(value, dict) else {})
        return group

    def method(self, knob: Knob, path: str, value: Any) -> Group:
        """A choice among the methods of a family, and the knobs of the chosen one."""
        known = methods_of(knob.of, knob.role)
        chosen = value if isinstance(value, dict) else {}
        tag = str(chosen.get("type") or default_type(knob, self.facts.objective))
        group = Group(path, was=tag, entry=known.get(tag))
        none = (
            [("", "none")] if knob.optional and not default_type(knob, self.facts.objective) else []
        )
        options = [*none, *((entry.type, entry.type) for entry in known.values())]
        if tag and tag not in known:
            options.append((tag, f"{tag} (unknown)"))
        group.selector = Field(f"{path}.type", knob, tag, options=options, swaps=True)
        group.selector.grouped = _grouped(options, known)
        if group.entry:
            self.fill(group, group.entry.knobs, chosen)
        return group

    def items(self, knob: Knob, path: str, value: Any) -> Group:
        """A list of methods or of sections."""
        items = value if isinstance(value, (list, tuple)) else default_items(knob)
        group = Group(path, is_list=True)
        if knob.kind == "methods":
            known = methods_of(knob.of, knob.role).values()
            group.adds = [(entry.type, entry.type, entry.summary) for entry in known]
        else:
            group.adds = [("", "a source", "")]
        for number, item in enumerate(items):
            inner = f"{path}.{number}"
            one = knob.kind == "methods"
            made = (self.method if one else self.data_source)(knob, inner, item)
            made.is_item = True
            group.groups.append(made)
        return group

    def data_source(self, knob: Knob, path: str, value: Any) -> Group:
        """A source of rows; the options of a built-in one are fields of their own."""
        chosen = value if isinstance(value, dict) else {}
        knobs = section_knobs(knob.of)
        default = next((str(k.default) for k in knobs if k.name == "source"), "")
        name = str(chosen.get("source") or default)
        entry = built_in_sources().get(name)
        group = Group(path)
        self.fill(group, [k for k in knobs if not (entry and k.name == "options")], chosen)
        options = Group(f"{path}.options", was=entry.type if entry else "", entry=None)
        if entry:
            given = chosen.get("options")
            self.fill(options, entry.knobs, given if isinstance(given, dict) else {})
            options.shown, options.folded = [*options.shown, *options.folded], []
            options.help = entry.summary
            options.title = "options"
        group.groups.insert(0, options)
        return group

    def fill(self, group: Group, knobs: Iterable[Knob], value: Mapping[str, Any]) -> None:
        """Put knobs into a group: scalars shown or folded, the others as groups below."""
        fields = []
        for knob in knobs:
            if knob.noted:
                continue
            path = f"{group.path}.{knob.name}"
            given = value.get(knob.name, UNSET)
            if knob.kind in SCALARS:
                fields.append(self.field(knob, group.path, given))
            else:
                group.groups.append(self.group(knob, path, given))
        group.shown = [one for one in fields if one.knob.basic]
        group.folded = [one for one in fields if not one.knob.basic]
        if not group.shown and len(group.folded) <= _SMALL:
            group.shown, group.folded = group.folded, []

    def field(self, knob: Knob, parent: str, value: Any) -> Field:
        """One scalar knob."""
        path = f"{parent}.{knob.name}".lstrip(".")
        picks = _PICKED.get(path) or (_PICKED.get(knob.name, "") if "." in path else "")
        picks = "reward_models" if knob.names_model else picks
        made = Field(
            path, knob, text_of(knob, value), picks=picks, silent=silence(path, self.facts)
        )
        made.changed = not same(knob, _as_read(knob, value))
        default = text_of(knob, knob.default)
        if knob.kind == "choice":
            made.text = made.text or default
            made.options = [(str(c), str(c)) for c in knob.choices]
            if made.text not in dict(made.options):
                made.options.append((made.text, f"{made.text} (unknown)"))
            made.swaps = path == "kind"
        elif knob.kind == "boolean":
            made.text = made.text or default
        elif picks and default:
            # What a run is made of is shown, not hinted at.
            made.text = made.text or default
            made.swaps = True
        else:
            made.placeholder = default
        return made


def _as_read(knob: Knob, value: Any) -> Any:
    """A value as the form reads it back: text of a number counts as the number."""
    return value_of(knob, value) if isinstance(value, str) and value else value


def _placed(sections: Sequence[Section], problems: Sequence[tuple[str, str]]) -> list[str]:
    """Put each problem at its field, or at the nearest group above; the rest is returned."""
    places: dict[str, list[str]] = {}
    for section in sections:
        for top in section.groups:
            for group in top.walk():
                places.setdefault(group.path, group.problems)
                for one in (*group.shown, *group.folded):
                    places[one.path] = one.problems
                if group.selector:
                    places[group.selector.path] = group.problems
    left = []
    for path, message in problems:
        place = path
        while place and place not in places:
            place = place.rpartition(".")[0]
        if place:
            places[place].append(message)
        else:
            left.append(f"{path}: {message}" if path else message)
    return left


def _grouped(
    options: list[tuple[str, str]], known: dict[str, Entry]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Options below what their methods learn from; nothing where methods do not tell."""
    found: dict[str, list[tuple[str, str]]] = {}
    for value, label in options:
        entry = known.get(value)
        words = LEARNS_FROM.get(entry.learns_from, "") if entry else ""
        found.setdefault(f"Learns from {words}" if words else "", []).append((value, label))
    return sorted(found.items()) if len(found) > 1 else []
