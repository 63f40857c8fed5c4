"""The catalogue: every method and every section of the spec, with its knobs, read from the code itself.

The form, the catalogue page, `python -m trainer catalog` and the documentation all come from here.
Help text is a field's docstring; `Unit:`, `Healthy:` and `Source:` in it become fields of their own.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trainer import registry
from trainer.spec import RunSpec, Section

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Kind = Literal[
    "text", "integer", "number", "boolean", "choice", "list", "mapping",
    "method", "methods", "section", "sections",
]  # fmt: skip
"""What a form needs to know of a knob. `method` takes one method of `of` (a family), `methods` several;
`section` holds the knobs of the section `of`, `sections` several of it. An integer or a number with
`choices` takes those words as well."""

_MARKER = re.compile(r"(?:^|(?<=\s))(Unit|Healthy|Source): ")


@dataclass(frozen=True)
class Knob:
    """One field of a method or a section."""

    name: str
    kind: Kind
    default: Any
    """As it travels in JSON; None also when the knob has no default (then `required`)."""
    required: bool
    optional: bool
    """Whether it may be left out as null."""
    minimum: float | None
    minimum_excluded: bool
    maximum: float | None
    maximum_excluded: bool
    choices: tuple[Any, ...]
    of: str
    role: str
    """Of a method knob: only methods of this role fit (`Entry.role`)."""
    help: str
    unit: str
    healthy: str
    source: str
    basic: bool
    """Shown unfolded in the form."""
    live: bool
    """May be changed while the run runs."""
    names_model: bool
    """May be `run:ID`, `checkpoint:ID` or `external:ID`, of a reward model."""
    noted: bool
    """Filled in by the server, and no field of a form."""


@dataclass(frozen=True)
class Entry:
    """One method."""

    family: str
    type: str
    role: str
    """Its base class in lower case: two families of rows, `source` and `transform`, share a folder."""
    title: str
    summary: str
    """What it does, in a sentence: the class's docstring."""
    origin: str
    """The first line of its file, which names the paper."""
    formula: str
    learns_from: str
    needs: tuple[str, ...]
    primary: str
    charts: tuple[str, ...]
    knobs: tuple[Knob, ...]
    file: str
    sha256: str


@dataclass(frozen=True)
class SectionEntry:
    """One section of the spec: `model`, `data`, `data.train`, ...; "" is the spec's own top level."""

    name: str
    summary: str
    knobs: tuple[Knob, ...]


def catalog() -> list[Entry]:
    """Every method of every family. Raises ImportError that names a faulty file."""
    return [
        _entry(family, tag, method)
        for family in registry.FAMILIES
        for tag, method in registry.family(family).items()
    ]


def entry_of(family: str, tag: str) -> Entry:
    """One method. Raises KeyError when there is none."""
    return _entry(family, tag, registry.family(family)[tag])


def spec_sections() -> list[SectionEntry]:
    """The sections of the spec in its order, its own top level first."""
    return [
        SectionEntry(path, inspect.cleandoc(section.__doc__ or ""), knobs_of(section))
        for section, path in _section_paths().items()
    ]


def knobs_of(model: type[BaseModel]) -> tuple[Knob, ...]:
    """The knobs of a method or of a section of the spec, in the order of the file."""
    return tuple(_knob(name, info) for name, info in model.model_fields.items() if name != "type")


def catalog_data() -> dict[str, Any]:
    """The catalogue as plain data: `methods` and `sections`."""
    return {
        "methods": [asdict(entry) for entry in catalog()],
        "sections": [asdict(section) for section in spec_sections()],
    }


def catalog_json() -> str:
    """The catalogue as JSON text."""
    return json.dumps(catalog_data(), indent=1, ensure_ascii=False)


def catalog_markdown() -> str:
    """The catalogue as a page of Markdown: methods by family, then the spec's sections."""
    lines = ["# Methods and knobs", ""]
    family = ""
    for entry in catalog():
        if entry.family != family:
            family = entry.family
            lines += [f"## {family}", "", _first_line(sys.modules[f"trainer.{family}"].__doc__), ""]
        lines += [f"### {entry.type}", "", entry.origin, "", entry.summary, ""]
        if entry.formula:
            lines += ["```", entry.formula, "```", ""]
        if entry.learns_from:
            needs = f"; needs {', '.join(entry.needs)}" if entry.needs else ""
            lines += [f"Learns from {entry.learns_from}{needs}.", ""]
        lines += _knob_table(entry.knobs)
    lines += ["## The run spec", ""]
    for section in spec_sections():
        lines += [f"### {section.name or 'top level'}", "", section.summary, ""]
        lines += _knob_table(section.knobs)
    return "\n".join(lines).rstrip() + "\n"


@cache
def _section_paths() -> dict[type[BaseModel], str]:
    """Section -> where it first stands in the spec; `data.eval` holds the same as `data.train`."""
    found: dict[type[BaseModel], str] = {RunSpec: ""}
    pending: list[type[BaseModel]] = [RunSpec]
    while pending:
        parent = pending.pop(0)
        for name, info in parent.model_fields.items():
            section = _model_in(info.annotation, Section)
            if section is not None and section not in found:
                found[section] = f"{found[parent]}.{name}".lstrip(".")
                pending.append(section)
    return found


def _entry(family: str, tag: str, method: type[registry.Method]) -> Entry:
    module = inspect.getmodule(method)
    origin = " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())
    head, separator, _ = origin.partition(": ")
    return Entry(
        family=family,
        type=tag,
        role=_role_of(method),
        title=head if separator and len(head) <= 40 else tag,
        summary=" ".join(inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].split()),
        origin=origin,
        formula=getattr(method, "formula", ""),
        learns_from=getattr(method, "learns_from", ""),
        needs=tuple(sorted(getattr(method, "needs", ()))),
        primary=getattr(method, "primary", ""),
        charts=tuple(getattr(method, "charts", ())),
        knobs=knobs_of(method),
        file=registry.file_of(method).name,
        sha256=registry.hashes()[f"{family}/{tag}"],
    )


def _knob(name: str, info: FieldInfo) -> Knob:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kind, choices, of, optional = _kind(info.annotation)
    default = None if info.is_required() else _plain(info.get_default(call_default_factory=True))
    low, low_excluded = _bound(info, annotated_types.Ge, annotated_types.Gt)
    high, high_excluded = _bound(info, annotated_types.Le, annotated_types.Lt)
    return Knob(
        name=name,
        kind=kind,
        default=default,
        required=info.is_required(),
        optional=optional,
        minimum=low,
        minimum_excluded=low_excluded,
        maximum=high,
        maximum_excluded=high_excluded,
        choices=choices,
        of=of,
        role=_role_in(info.annotation) if kind in ("method", "methods") else "",
        basic=bool(extra.get("basic")),
        live=bool(extra.get("live")),
        names_model=bool(extra.get("names_model")),
        noted=bool(extra.get("noted")),
        **_help_parts(info.description or _section_help(info.annotation)),
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[Any, ...], str, bool]:
    """Kind, choices, what it is of, and whether null is allowed."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    optional = False
    choices: tuple[Any, ...] = ()
    if get_origin(annotation) in (Union, types.UnionType):
        options = get_args(annotation)
        optional = type(None) in options
        options = tuple(option for option in options if option is not type(None))
        literals = [option for option in options if get_origin(option) is Literal]
        choices = tuple(value for option in literals for value in get_args(option))
        others = [option for option in options if option not in literals]
        annotation = others[0] if others else options[0]
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return *_kind(annotation)[:3], optional
    if origin is Literal:
        return "choice", get_args(annotation), "", optional
    if origin in (tuple, list):
        item, _, of, _ = _kind(get_args(annotation)[0])
        plural: dict[str, Kind] = {"method": "methods", "section": "sections"}
        return plural.get(item, "list"), (), of, optional
    if inspect.isclass(annotation) and issubclass(annotation, registry.Method):
        return "method", (), _family_of(annotation), optional
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section", (), _section_paths().get(annotation, ""), optional
    scalars: dict[Any, Kind] = {bool: "boolean", int: "integer", float: "number", str: "text"}
    if annotation in scalars:
        return scalars[annotation], choices, "", optional
    if origin is dict or annotation is dict:
        return "mapping", (), "", optional
    return "text", choices, "", optional


def _model_in(annotation: Any, base: type[BaseModel]) -> Any:
    """The subclass of `base` that an annotation mentions, or None."""
    if inspect.isclass(annotation) and issubclass(annotation, base):
        return annotation
    return next((found for item in get_args(annotation) if (found := _model_in(item, base))), None)


def _family_of(method: type[registry.Method]) -> str:
    return next(family for family, bases in registry.FAMILIES.items() if issubclass(method, bases))


def _role_of(method: type[registry.Method]) -> str:
    bases = registry.FAMILIES[_family_of(method)]
    return next(base.__name__.lower() for base in bases if issubclass(method, base))


def _role_in(annotation: Any) -> str:
    return _role_of(_model_in(annotation, registry.Method))


def _section_help(annotation: Any) -> str:
    model = _model_in(annotation, Section)
    if model is not None:
        return inspect.cleandoc(model.__doc__ or "")
    method = _model_in(annotation, registry.Method)
    if method is None:
        return ""
    base = next(base for base in registry.FAMILIES[_family_of(method)] if issubclass(method, base))
    return inspect.cleandoc(base.__doc__ or "").split("\n\n")[0]


def _bound(info: FieldInfo, included: type, excluded: type) -> tuple[float | None, bool]:
    for item in info.metadata:
        if isinstance(item, included):
            return _number_of(item), False
        if isinstance(item, excluded):
            return _number_of(item), True
    return None, False


def _number_of(bound: Any) -> float:
    """The one number that a bound of annotated_types holds."""
    return next(
        float(value)
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(bound, name, None)) is not None
    )


def _help_parts(text: str) -> dict[str, str]:
    """A docstring divided at `Unit:`, `Healthy:` and `Source:`."""
    parts = _MARKER.split(" ".join(text.split()))
    found = {"help": parts[0].strip(), "unit": "", "healthy": "", "source": ""}
    for name, value in zip(parts[1::2], parts[2::2], strict=True):
        value = value.strip()
        if name == "Unit":
            value, _, rest = value.partition(". ")
            found["help"] = f"{found['help']} {rest}".strip()
        found[name.lower()] = value.removesuffix(".")
    return found


def _plain(value: Any) -> Any:
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _knob_table(knobs: tuple[Knob, ...]) -> list[str]:
    if not knobs:
        return ["No knobs.", ""]
    lines = ["| Knob | Default | Range | Help |", "| --- | --- | --- | --- |"]
    for knob in knobs:
        notes = [knob.help]
        notes += [f"Unit: {knob.unit}."] if knob.unit else []
        notes += [f"Healthy: {knob.healthy}."] if knob.healthy else []
        notes += [f"Source: {knob.source}."] if knob.source else []
        default = "" if knob.required else json.dumps(knob.default, ensure_ascii=False)
        cells = [f"`{knob.name}`", f"`{default}`" if default else "required", _range(knob)]
        cells.append(" ".join(notes))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def _range(knob: Knob) -> str:
    if knob.kind == "choice":
        return ", ".join(str(choice) for choice in knob.choices)
    if knob.of:
        return f"{knob.kind} of {knob.of}"
    sides = []
    if knob.minimum is not None:
        sides.append(f"{'above' if knob.minimum_excluded else 'from'} {knob.minimum:g}")
    if knob.maximum is not None:
        sides.append(f"{'below' if knob.maximum_excluded else 'to'} {knob.maximum:g}")
    words = " or ".join(str(choice) for choice in knob.choices)
    return " ".join([knob.kind, *sides]) + (f" or {words}" if words else "")


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
