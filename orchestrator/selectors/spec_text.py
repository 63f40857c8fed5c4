"""A spec as text: TOML and JSON, both ways, keeping numbers as people typed them."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from typing import Any, Self

import tomli_w

_DEEPEST = 20
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_TOML_NUMBER = re.compile(r"[+-]?(0|[1-9](_?\d)*)(\.\d(_?\d)*)?([eE][+-]?\d(_?\d)*)?")


class Typed(float):
    """A number that remembers how it was written: 1e-4 stays 1e-4, not 0.0001."""

    text: str

    def __new__(cls, text: str) -> Self:
        value = super().__new__(cls, text)
        value.text = text.strip()
        return value

    def __str__(self) -> str:
        # TOML refuses ".5" and "5.", and reads "5" as an integer, which a number field takes as well.
        return self.text if _TOML_NUMBER.fullmatch(self.text) else repr(float(self))

    def __reduce__(self) -> Any:
        return (Typed, (self.text,))


class TextError(ValueError):
    """Text that is neither TOML nor JSON; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(f"line {line}: {message}" if line else message)


def spec_toml(raw: dict[str, Any]) -> str:
    """The spec as TOML, without comments; nulls are left out, as TOML has none."""
    return tomli_w.dumps(_without_nulls(raw))


def spec_json(raw: dict[str, Any]) -> str:
    """The spec as indented JSON."""
    return json.dumps(_without_nulls(raw), indent=2, ensure_ascii=False) + "\n"


def spec_read(text: str) -> dict[str, Any]:
    """A spec from TOML, or from JSON when it begins with a brace. Raises TextError with the line."""
    json_given = text.lstrip().startswith("{")
    try:
        raw = _from_json(text) if json_given else _from_toml(text)
    except TextError:
        raise
    except RecursionError as error:
        raise TextError("nested too deeply for a spec", 1) from error
    except ValueError as error:
        # Python reads no whole number of more than some thousand digits.
        raise TextError("a number with too many digits", 1) from error
    _check(raw, 0)
    return raw


def _from_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"), parse_float=Typed)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at line (\d+), column \d+\)| \(at end of document\)", message)
        line = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
        reason = message[: place.start()] if place else message
        raise TextError(f"not TOML: {reason[:1].lower()}{reason[1:]}", line) from error


def _from_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_float=Typed)
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise TextError(f"not JSON: {reason}", error.lineno) from error
    if not isinstance(value, dict):
        raise TextError("a spec is one JSON object", 1)
    # The API takes {"spec": {...}, "name": ...}: people paste that too.
    inner = value.get("spec")
    return inner if isinstance(inner, dict) else value


def _check(value: Any, depth: int) -> None:
    """Refuse what no spec holds and what could not be stored or shown."""
    if depth > _DEEPEST:
        raise TextError("nested too deeply for a spec", 1)
    if isinstance(value, dict):
        for name, item in value.items():
            _check(name, depth)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str) and (found := _NO_TEXT.search(value)):
        raise TextError(f"the character U+{ord(found[0]):04X} cannot be stored", 1)
    elif isinstance(value, (datetime.date, datetime.time)):
        raise TextError(f"{value} is a date or a time: put it between quotes", 1)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _without_nulls(item) for k, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value if item is not None]
    return value
