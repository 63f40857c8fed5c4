"""Numbers, durations and times as people read them: few digits, thin spaces, exact values on hover."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html

register = template.Library()

NONE = "–"
THIN_SPACE = "\u2009"
_WORDS = {"NaN": "NaN", "Infinity": "∞", "-Infinity": "−∞"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@register.filter
def figure(value: Any) -> str:
    """A number in three significant digits; whole ones in full with thin spaces."""
    if value is None or value == "":
        return NONE
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, int):
        return _signed(f"{value:,}".replace(",", THIN_SPACE))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return _signed(_decimal(value))


def _signed(text: str) -> str:
    return "−" + text[1:] if text.startswith("-") else text


def _decimal(value: float) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 999.5:
        return f"{value:,.0f}".replace(",", THIN_SPACE) if size < 1e9 else f"{value:.2e}"
    if size < 1e-3:
        return f"{value:.2e}".replace("e-0", "e-")
    digits = 2 - math.floor(math.log10(size))
    return f"{value:.{max(0, min(digits, 5))}f}"


@register.filter
def size(value: int | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return NONE
    left = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024:
            return f"{left:.0f} {unit}" if unit == "B" else f"{_decimal(left)} {unit}"
        left /= 1024
    return f"{_decimal(left)} TiB"


@register.filter
def duration(value: float | timedelta | None) -> str:
    """Seconds as at most two units: "1 h 12 min", "45 s"."""
    if value is None:
        return NONE
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0 or not math.isfinite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for length, unit in _UNITS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


@register.filter
def short_seconds(value: float | None) -> str:
    """A time that may be far below a second: "3.20 ms", "1.25 s", "2 min 5 s"."""
    if value is None:
        return NONE
    if abs(value) < 0.9995:
        return f"{_signed(_decimal(value * 1000))} ms"
    return f"{_signed(_decimal(value))} s" if abs(value) < 60 else duration(value)


@register.filter
def signed_seconds(value: float | None) -> str:
    """A difference of clocks with its sign: "+3.20 s", "−12 ms"."""
    if value is None:
        return "not measured"
    words = short_seconds(abs(value))
    return words if not value else f"{'+' if value > 0 else '−'}{words}"


@register.filter
def give_or_take(value: float | None) -> str:
    """How much a measurement may be off."""
    return "" if value is None else f"± {short_seconds(value)}"


@register.filter
def moment(value: Any) -> datetime | None:
    """A point in time, from a datetime, ISO text or Unix seconds."""
    if value in (None, ""):
        return None
    if isinstance(value, str):
        return parse_datetime(value)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, tz=timezone.get_current_timezone())
    return value if isinstance(value, datetime) else None


@register.filter
def ago(value: Any) -> str:
    """A relative time that keeps itself fresh, with the absolute one on hover."""
    found = moment(value)
    if found is None:
        return NONE
    local = timezone.localtime(found)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        found.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        _relative((timezone.now() - found).total_seconds()),
    )


@register.filter
def clock(value: Any) -> str:
    """The time of day, with the date on hover."""
    found = moment(value)
    if found is None:
        return NONE
    local = timezone.localtime(found)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        found.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        f"{local:%H:%M:%S}",
    )


def _relative(seconds: float) -> str:
    if seconds < 5:
        return "now"
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "now"


@register.filter
def percent(part: float, whole: float) -> float:
    """How much of `whole` has passed, from 0 to 100, for the width of a bar."""
    return round(max(0.0, min(100.0, 100 * part / whole)), 2) if whole else 0.0


@register.filter
def share(value: float) -> str:
    """A part of a whole, in percent: "62 %", "0.4 %", "99.6 %"; what is not all is never "100 %"."""
    if 0.99 < value < 1:
        return f"{math.floor(1000 * value) / 10:.1f} %"
    return f"{100 * value:.0f} %" if not 0 < value < 0.0095 else f"{100 * value:.1g} %"


@register.filter
def until(start: datetime, end: datetime) -> float:
    """Seconds between two moments."""
    return (end - start).total_seconds()


@register.filter
def item(mapping: Any, key: Any) -> Any:
    """The value of a key that is not a plain name; None when it is not there."""
    return mapping.get(key) if isinstance(mapping, dict) else None


@register.filter
def at(values: Any, place: int) -> Any:
    """One item of a list by its place."""
    return values[place]


@register.filter
def plain(value: float) -> str:
    """A number for a data- attribute, whatever the reader's language does to numbers."""
    return repr(value)


@register.filter
def as_json(value: Any) -> str:
    """JSON for a data- attribute; the template escapes it."""
    return json.dumps(value, ensure_ascii=False)
