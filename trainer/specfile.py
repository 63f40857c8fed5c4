"""Spec files: TOML or JSON, with `key.path=value` overrides from the command line."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from trainer.recipebook import recipe_find
from trainer.spec import Problem, RunSpec, SpecError, spec_parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def spec_load(name: str, overrides: Sequence[str] = ()) -> RunSpec:
    """The spec of a file, or of a recipe by name, with overrides. Raises SpecError."""
    try:
        raw = spec_read(recipe_find(name))
    except (ValueError, OSError) as error:
        raise SpecError([Problem(path="", message=str(error))]) from error
    return spec_parse(with_overrides(raw, overrides))


def spec_read(path: Path) -> dict[str, Any]:
    """The plain data of a spec file. Raises ValueError that names the file."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise ValueError(f"{path}: not {kind} ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a spec is an object of sections, not a {type(raw).__name__}")
    # A run directory's spec.json holds the spec under its hash.
    if set(raw) == {"sha256", "spec"}:
        raw = raw["spec"]
    return raw


def with_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy with every `key.path=value` applied. Raises SpecError for one that is not of that form."""
    data: dict[str, Any] = json.loads(json.dumps(raw))
    for item in overrides:
        path, separator, text = item.partition("=")
        if not separator or not path.strip():
            problem = Problem(path="", message=f"'{item}' is not of the form key.path=value")
            raise SpecError([problem])
        set_path(data, path.strip(), value_read(text.strip()))
    return data


def value_read(text: str) -> Any:
    """A TOML value (`1e-4`, `true`, `[1, 2]`, `"text"`), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set `rewards.0.weight` in nested objects and lists. Raises SpecError where there is no such place."""
    keys = path.split(".")
    place: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not key.isdigit() or int(key) > len(place) - (not last):
                said = ".".join(keys[:depth])
                message = f"{said} has {len(place)} entries, numbered from 0; '{key}' is not one"
                raise SpecError([Problem(path=path, message=message)])
            index = int(key)
            if last:
                place[index : index + 1] = [value]
            else:
                place = place[index]
        elif isinstance(place, dict):
            if last:
                place[key] = value
            else:
                if place.get(key) is None:
                    place[key] = {}
                place = place[key]
        else:
            said = ".".join(keys[:depth])
            raise SpecError([Problem(path=path, message=f"{said} is a value, not a section")])
