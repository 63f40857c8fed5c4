"""From a posted form back to a draft of a spec: types by the schema, nothing typed is lost."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.knob_text import UNSET, same, text_of, value_of
from orchestrator.selectors.spec_schema import (
    built_in_sources,
    default_items,
    default_type,
    methods_of,
    objective_of,
    section_knobs,
    top_knobs,
)
from orchestrator.selectors.spec_silence import facts_of, refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trainer.catalog import Entry, Knob

SCALARS = frozenset({"text", "integer", "number", "boolean", "choice", "list", "mapping"})
WAS = "@was"
"""`objective@was`: the type whose knobs the page showed, so that a switch is seen."""
COUNT = "@count"
"""`rewards@count`: how many items the page showed, so that an emptied list is seen."""
NAMED = frozenset({"objective"})
"""Methods that the written spec always names."""
_MOST_ITEMS = 64

Kept = dict[str, dict[str, dict[str, str]]]
"""Path -> type -> knob -> text: what was typed for a type that is not chosen just now."""


@dataclass
class Draft:
    """What the form holds: plain data that may not be a valid spec yet."""

    raw: dict[str, Any] = field(default_factory=dict)
    kept: Kept = field(default_factory=dict)


def draft_read(post: Mapping[str, Sequence[str]]) -> Draft:
    """The draft that a posted form describes (`QueryDict.lists()` as a dict)."""
    return _Reader(post).draft()


def item_add(draft: Draft, path: str, tag: str) -> None:
    """Append an item to the list at `path`: a method of this type, or a section with this source."""
    knob = _knob_at(path)
    items = _list_at(draft.raw, path)
    if knob is None or len(items) >= _MOST_ITEMS:
        return
    if knob.kind == "methods":
        tag = tag or next(iter(methods_of(knob.of, knob.role)))
        items.append({"type": tag, **_unlike(tag, items)})
    else:
        items.append({"source": tag} if tag else _like_the_last(items))


def item_remove(draft: Draft, path: str) -> None:
    """Remove the item at `rewards.1`; what was kept for later items moves with them."""
    parent, _, number = path.rpartition(".")
    items = _list_at(draft.raw, parent)
    if not number.isdigit() or int(number) >= len(items):
        return
    gone = int(number)
    del items[gone]
    moved: Kept = {}
    for key, value in draft.kept.items():
        match = re.match(rf"{re.escape(parent)}\.(\d+)(.*)$", key, re.DOTALL)
        if match is None or int(match[1]) < gone:
            moved[key] = value
        elif int(match[1]) > gone:
            moved[f"{parent}.{int(match[1]) - 1}{match[2]}"] = value
    draft.kept = moved


def spec_of(raw: dict[str, Any]) -> dict[str, Any]:
    """The spec that a draft stands for: without the parts that its objective would refuse.

    The draft itself keeps them, so that switching back brings them back.
    """
    if raw.get("kind") == "play":
        return _playground_of(raw)
    spec = raw
    for path in refused(facts_of(raw)) if raw.get("kind", "train") == "train" else ():
        spec = _without(spec, path.split("."))
    return spec


def _playground_of(raw: dict[str, Any]) -> dict[str, Any]:
    """What of a draft a playground takes: everything else of it is hidden in the form."""
    kept = {"dtype", "trust_remote_code"}
    parts = {"kind", "name", "play", "batch", "resources"}
    spec: dict[str, Any] = {key: value for key, value in raw.items() if key in parts}
    model = {key: value for key, value in raw.get("model", {}).items() if key in kept}
    return {**spec, "model": model} if model else spec


def _without(spec: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """The spec without what lies at `path`; a section that is empty then goes too."""
    name, *rest = path
    if name not in spec:
        return spec
    inner = spec[name]
    if rest and not isinstance(inner, dict):
        return spec
    left = _without(inner, rest) if rest else {}
    if rest and left is inner:
        return spec
    return {
        key: left if key == name else value for key, value in spec.items() if key != name or left
    }


class _Reader:
    def __init__(self, post: Mapping[str, Sequence[str]]) -> None:
        self.post = post
        self.kept = _kept(self._text("_kept"))
        tag = self._text("objective.type")
        self.objective = objective_of({"objective": {"type": tag}} if tag else {})

    def draft(self) -> Draft:
        raw = self._knobs(top_knobs().values(), "")
        return Draft(raw, self.kept)

    def _text(self, name: str) -> str:
        values = self.post.get(name) or ("",)
        # A checkbox follows its hidden "false": the last one counts.
        return str(values[-1]).replace("\x00", "")

    def _knobs(self, knobs: Iterable[Knob], prefix: str) -> dict[str, Any]:
        found = {}
        for knob in knobs:
            value = self._value(knob, prefix + knob.name)
            if value is not UNSET:
                found[knob.name] = value
        return found

    def _value(self, knob: Knob, path: str) -> Any:
        if knob.kind == "section":
            return self._knobs(section_knobs(knob.of), f"{path}.") or UNSET
        if knob.kind == "method":
            return self._method(knob, path)
        if knob.kind in ("methods", "sections"):
            return self._items(knob, path)
        return self._scalar(knob, self._text(path))

    def _scalar(self, knob: Knob, text: str) -> Any:
        value = value_of(knob, text)
        if knob.kind in ("choice", "boolean") and same(knob, value):
            return UNSET
        return value

    def _items(self, knob: Knob, path: str) -> Any:
        count = self._text(path + COUNT)
        if not count.isdigit():
            return UNSET
        items = []
        for number in range(min(int(count), _MOST_ITEMS)):
            inner = f"{path}.{number}"
            if knob.kind == "methods":
                item = self._method(knob, inner)
                items.append(item if item is not UNSET else {})
            else:
                items.append(self._section_item(knob, inner))
        return items if items or knob.default else UNSET

    def _section_item(self, knob: Knob, path: str) -> dict[str, Any]:
        """One of `data.train`: the options of a built-in source are fields of their own."""
        entry = built_in_sources().get(self._text(f"{path}.source"))
        was = self._text(f"{path}.options{WAS}")
        if entry is None and not was:
            return self._knobs(section_knobs(knob.of), f"{path}.")
        others = [k for k in section_knobs(knob.of) if k.name != "options"]
        item = self._knobs(others, f"{path}.")
        options = self._switched(
            f"{path}.options", entry, was, built_in_sources(), self._text(f"{path}.source")
        )
        return {**item, "options": options} if options else item

    def _method(self, knob: Knob, path: str) -> Any:
        tag = self._text(f"{path}.type")
        if not tag:
            return UNSET
        known = methods_of(knob.of, knob.role)
        was = self._text(path + WAS) or tag
        knobs = self._switched(path, known.get(tag), was, known, tag)
        silent = knob.kind == "method" and not knobs and path not in NAMED
        if silent and tag == default_type(knob, self.objective):
            return UNSET
        return {"type": tag, **knobs}

    def _switched(
        self, path: str, entry: Entry | None, was: str, known: dict[str, Entry], tag: str
    ) -> dict[str, Any]:
        """The knobs of a method; after a switch, those that carry over and those kept from before."""
        old = known.get(was)
        if was == tag or old is None:
            return self._knobs(entry.knobs, f"{path}.") if entry else {}
        typed = {
            knob.name: text
            for knob in old.knobs
            if knob.kind in SCALARS and (text := self._text(f"{path}.{knob.name}"))
        }
        kept = self.kept.setdefault(path, {})
        kept[was] = {name: text for name, text in typed.items() if not _is_default(old, name, text)}
        before = kept.pop(tag, {})
        # One name may mean two things: only what both describe in the same words carries over.
        words = {one.name: one.help for one in old.knobs}
        found = {}
        for knob in entry.knobs if entry else ():
            carried = kept[was].get(knob.name, "") if words.get(knob.name) == knob.help else ""
            if knob.choices and knob.kind == "choice" and carried not in map(str, knob.choices):
                carried = ""
            value = self._scalar(knob, before.get(knob.name, carried))
            if value is not UNSET:
                found[knob.name] = value
        return found


def _is_default(entry: Entry, name: str, text: str) -> bool:
    """Whether a select or a checkbox only shows its default: nobody typed that."""
    knob = next(knob for knob in entry.knobs if knob.name == name)
    return knob.kind in ("choice", "boolean") and same(knob, value_of(knob, text))


def _kept(text: str) -> Kept:
    """The hidden field of the page, believed only in shape."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        str(path): {
            str(tag): {str(name): str(word) for name, word in knobs.items()}
            for tag, knobs in types.items()
            if isinstance(knobs, dict)
        }
        for path, types in value.items()
        if isinstance(types, dict)
    }


def _knob_at(path: str) -> Knob | None:
    """The list knob at `rewards` or `data.train`."""
    head, _, rest = path.partition(".")
    knob = top_knobs().get(head)
    if knob is not None and rest and knob.kind == "section":
        knob = next((k for k in section_knobs(knob.of) if k.name == rest), None)
    return knob if knob is not None and knob.kind in ("methods", "sections") else None


def _list_at(raw: dict[str, Any], path: str) -> list[Any]:
    """The list at a path of the draft, made when it is missing."""
    *parents, name = path.split(".")
    place: Any = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            return []
    knob = _knob_at(path)
    if not isinstance(place.get(name), list):
        place[name] = default_items(knob) if knob else []
    items: list[Any] = place[name]
    return items


def _unlike(tag: str, items: list[Any]) -> dict[str, Any]:
    """A name for a second item of one type: two of a name would be refused."""
    taken = {item.get("name") or item.get("type") for item in items if isinstance(item, dict)}
    if tag not in taken:
        return {}
    return {
        "name": next(f"{tag}-{n}" for n in range(2, _MOST_ITEMS + 2) if f"{tag}-{n}" not in taken)
    }


def _like_the_last(items: list[Any]) -> dict[str, Any]:
    last = items[-1] if items and isinstance(items[-1], dict) else {}
    return {"source": last["source"]} if "source" in last else {}


def knob_texts(knobs: Iterable[Knob], value: Mapping[str, Any]) -> dict[str, str]:
    """What the fields of these knobs show."""
    return {k.name: text_of(k, value.get(k.name, UNSET)) for k in knobs if k.kind in SCALARS}
