"""Format: the share of regular expressions that an answer matches."""

import re
from collections import Counter
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from trainer.registry import Answer, Reward

SECONDS = 0.5
"""Longest match: a pattern such as (a+)+$ can take for ever on 40 characters."""


class FormatRegex(Reward):
    """Pay for answers of the right form: 1 when every pattern matches, else the share that does."""

    type: Literal["format-regex"] = "format-regex"
    counts: ClassVar[Counter[str]] = Counter()
    """`timeouts`: matches that were given up, in this process."""

    pattern: str = Field(min_length=1, max_length=2000, json_schema_extra={"basic": True})
    """A regular expression as in Python, for example `<think>.*</think>.*`. The dot matches line ends."""
    also: tuple[str, ...] = Field((), max_length=16)
    """Further patterns; each pays an equal share."""
    match: Literal["fullmatch", "search"] = "fullmatch"
    """Whether the whole answer must match (white space at both ends aside), or any part of it."""
    ignore_case: bool = False
    """Compare without regard to upper and lower case."""
    most_characters: int = Field(20_000, ge=1, le=1_000_000)
    """Longer answers get 0 without being looked at. Unit: characters."""

    @field_validator("pattern", "also")
    @classmethod
    def _compiles(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for pattern in (value,) if isinstance(value, str) else value:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return value

    def score(self, answer: Answer) -> float | None:
        """The share of patterns that match; None when one of them took longer than the limit."""
        if len(answer.text) > self.most_characters:
            return 0.0
        patterns = (self.pattern, *self.also)
        try:
            return sum(self._matches(pattern, answer.text) for pattern in patterns) / len(patterns)
        except TimeoutError:
            self.counts["timeouts"] += 1
            return None

    def _matches(self, pattern: str, text: str) -> bool:
        compiled = _compiled(pattern, self.ignore_case)
        if self.match == "search":
            return compiled.search(text, timeout=SECONDS) is not None
        return compiled.fullmatch(text.strip(), timeout=SECONDS) is not None


@cache
def _compiled(pattern: str, ignore_case: bool) -> Any:
    regex: Any = import_module("regex")  # unlike re, it can give up after a time
    flags = regex.DOTALL | (regex.IGNORECASE if ignore_case else 0)
    return regex.compile(pattern, flags)
