"""The final answer of a worked solution, and the exact number that it names."""

import re
from dataclasses import dataclass
from fractions import Fraction

_DIGITS = 40
_PLAIN = rf"(?:\d{{1,3}}(?:,\d{{3}}){{1,9}}|\d{{1,{_DIGITS}}})(?:\.\d{{1,{_DIGITS}}})?|\.\d{{1,{_DIGITS}}}"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\ ?(?:
        (?:(?P<whole>\d{{1,9}})\ ?)?\\frac\{{?(?P<top>\d{{1,{_DIGITS}}})\}}?\{{?(?P<under>\d{{1,{_DIGITS}}})\}}?
      | (?:(?P<whole2>\d{{1,9}})\ )?(?P<top2>\d{{1,{_DIGITS}}})\ ?/\ ?(?P<under2>\d{{1,{_DIGITS}}})
      | (?P<plain>{_PLAIN})(?:[eE](?P<power>[+-]?\d{{1,2}}))?
    )\ ?(?P<percent>%?)""",
    re.VERBOSE,
)
_UNIT = re.compile(r"\s*(?:(?:[A-Za-z]{2,20}|a|per|/)[.²³]?\s*){0,6}\.?")
_NOT_UNITS = re.compile(r"\b(pi|sqrt|sin|cos|tan|log|ln|exp|or|and|to|plus|minus|times)\b", re.I)
_MARKS = (
    re.compile(r"####[ \t]*([^\n]+)"),
    re.compile(r"^[ \t]*(?:A|Answer|Final answer)[ \t]*:[ \t]*([^\n]+)", re.I | re.M),
    re.compile(r"\banswer is:?[ \t]*([^\n]+)", re.I),
)
_NOISE = re.compile(r"\\left|\\right|\\!|\\,|\\;|\\ |\\\(|\\\)|\\\$|[$€£~*]")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf)\{([^{}]*)\}")


@dataclass(frozen=True)
class Number:
    """An exact value; `percent` when it was written with a percent sign."""

    value: Fraction
    percent: bool = False

    def equals(self, other: "Number", tolerance: float = 0.0) -> bool:
        """Exact equality, or within `tolerance` times the other. 50% equals 50, 0.5 and 50%."""
        mine, theirs = {self.value}, {other.value}
        if self.percent != other.percent:
            mine |= {self.value / 100} if self.percent else set()
            theirs |= {other.value / 100} if other.percent else set()
        allowed = Fraction(tolerance)
        return any(abs(one - two) <= allowed * abs(two) for one in mine for two in theirs)


def marked_answer(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`, after the last `####`, or after the last `A:`."""
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    for mark in _MARKS:
        found = mark.findall(text)
        if found:
            return str(found[-1]).strip()
    return None


def number_of(text: str) -> Number | None:
    """The number that the whole text names, a currency sign and a unit aside; None when it is not one."""
    text = _clean(text)
    match = _NUMBER.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    if not _UNIT.fullmatch(rest) or _NOT_UNITS.search(rest):
        return None
    return _number(match)


def last_number(text: str) -> Number | None:
    """The last number in running text."""
    found = None
    text = _clean(text)
    for match in _NUMBER.finditer(text):
        found = match
    if found is None:
        return None
    before = text[found.start() - 1] if found.start() else " "
    number = _number(found)
    # The sign of "16-9" belongs to a subtraction, that of "= -9" to the number.
    if number is not None and found["sign"] == "-" and (before.isalnum() or before == ")"):
        return Number(-number.value, number.percent)
    return number


def plain_text(text: str) -> str:
    """An answer reduced to what must be equal when it is not a number."""
    return re.sub(r"\s+", "", _clean(text)).casefold()


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index].strip()
    return None


def _clean(text: str) -> str:
    text = text.replace("\u2212", "-").replace("\\%", "%").replace("{,}", ",")
    text = re.sub(r"\\[dt]frac", r"\\frac", _TEXT.sub(r" \1 ", text))
    return _NOISE.sub("", text).strip().removesuffix(".")


def _number(match: re.Match[str]) -> Number | None:
    if match["plain"]:
        value = Fraction(match["plain"].replace(",", "")) * Fraction(10) ** int(match["power"] or 0)
    else:
        under = int(match["under"] or match["under2"])
        if under == 0:
            return None
        value = Fraction(int(match["top"] or match["top2"]), under)
        value += int(match["whole"] or match["whole2"] or 0)
    return Number(-value if match["sign"] == "-" else value, bool(match["percent"]))
