"""One knob's value as the text of a form field, and back.

Empty text means the default. Text that does not fit the knob's type is kept as it is: the spec's own
validation then says what is wrong, at the right path, and the field still shows what was typed.
"""

from __future__ import annotations

import json
import math
import tomllib
from typing import TYPE_CHECKING, Any

import tomli_w

from orchestrator.selectors.spec_text import Typed

if TYPE_CHECKING:
    from trainer.catalog import Knob


class _Unset:
    """No value: the default holds."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


def text_of(knob: Knob, value: Any) -> str:
    """What the field shows for a value; "" for none."""
    if value is None or value is UNSET:
        return ""
    if isinstance(value, Typed):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return number_text(value)
    if knob.kind == "list" and isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if knob.kind == "mapping" and isinstance(value, dict):
        return tomli_w.dumps(value).strip()
    return json.dumps(value, ensure_ascii=False)


def value_of(knob: Knob, text: str) -> Any:
    """The value that a text stands for; UNSET when it says nothing, the text itself when it does not fit."""
    if not text.strip():
        return UNSET
    read = {
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "list": _list,
        "mapping": _mapping,
    }.get(knob.kind)
    for choice in knob.choices:
        if text == str(choice):
            return choice
    value = read(text) if read else text.replace("\r\n", "\n")
    # A comment alone is TOML too.
    return UNSET if value == {} else value


def number_text(value: float) -> str:
    """A number in few characters: 16, 0.28, 1e-4, 16384."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    plain = repr(value)
    if "e" not in plain and abs(value) >= 1e-3:
        return plain
    mantissa, _, exponent = f"{value:.15e}".partition("e")
    short = repr(float(mantissa)).removesuffix(".0")
    candidate = f"{short}e{int(exponent)}"
    return candidate if float(candidate) == value else plain


def same(knob: Knob, value: Any) -> bool:
    """Whether a value means the same as the knob's default."""
    if value is UNSET or value is None:
        return True
    default = knob.default
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    return bool(value == default)


def _integer(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return _number(text)


def _number(text: str) -> Any:
    try:
        value = Typed(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text.strip(), text)


def _list(text: str) -> list[str]:
    return [item for part in text.replace("\n", ",").split(",") if (item := part.strip())]


def _mapping(text: str) -> Any:
    """TOML lines, or `name = word` lines without quotes; the text itself when it is neither."""
    try:
        return tomllib.loads(text.replace("\r\n", "\n"), parse_float=Typed)
    except tomllib.TOMLDecodeError:
        pass
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip() or not value.strip():
            return text
        found[name.strip().strip("\"'")] = value.strip().strip("\"'")
    return found
