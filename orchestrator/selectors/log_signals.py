"""What an attempt printed: its last lines, and those that are known to tell of trouble."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models.functions import Left

from orchestrator.models import LogLine
from orchestrator.selectors.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Attempt, Run

LOOKED = 5000
"""So many of an attempt's last lines are looked at."""
WIDTH = 500
"""So much of each line."""
MOST = 20
SHOWN = 40
SOURCES = ("host", "trainer")
FRAMES_MOST = 200
"""Lines of a traceback after which its end is no longer looked for."""


class Line(NamedTuple):
    """A printed line; `pk` is None for one that host kept in its last word."""

    pk: int | None
    time: float | None
    text: str


PATTERNS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (code, title, re.compile(pattern, flags))
    for code, title, pattern, flags in (
        (
            "memory",
            "The log speaks of memory that ran out",
            r"\bout of memory\b|\bOutOfMemoryError\b|\bMemoryError\b|\bnot enough memory\b"
            r"|\bcannot allocate memory\b|\boom-kill",
            re.I,
        ),
        (
            "disk",
            "The log speaks of a full disk",
            r"No space left on device|Disk quota exceeded|\bENOSPC\b",
            re.I,
        ),
        (
            "nccl",
            "The log speaks of trouble between GPUs",
            r"\bNCCL (?:error|failure|timeout|WARN)\b|\bnccl(?:Unhandled|System|Internal|Remote)\w*Error\b"
            r"|Watchdog caught collective operation timeout",
            0,
        ),
        (
            "cuda",
            "The log speaks of an error of the GPU",
            r"\bCUDA error\b|\bCUBLAS_STATUS_(?!SUCCESS)\w+|\bcuDNN error\b|device-side assert triggered"
            r"|\bXid \(|uncorrectable ECC error",
            0,
        ),
        (
            "crash",
            "The log speaks of a process that crashed",
            r"^\W*Segmentation fault|\bSegmentation fault \(core dumped\)|^Fatal Python error:|\(core dumped\)"
            r"|^Bus error\b|^Illegal instruction\b",
            0,
        ),
        (
            "killed",
            "The log speaks of a process that was killed",
            r"^\s*Killed\s*$|\bKilled process \d+|: line \d+:\s+\d+ Killed\b",
            0,
        ),
        ("traceback", "The log has a traceback", r"Traceback \(most recent call last\):?\s*$", 0),
    )
)
ADVICE = re.compile(
    r"\b(?:avoid|avoids|avoiding|prevent|prevents|preventing|in case of|if you|to fix|instead of|without|would"
    r"|may|might|could|not|never|no)\b[\w ]{0,24}$",
    re.I,
)
"""What stands before trouble that is not there: advice and denials."""
PROGRESS = re.compile(r"\d%\|")
RAISED = re.compile(r"^(?:\[[^\]]*\]:?\s*)?(?P<what>[A-Za-z_][\w.]*(?::.*)?)$")
"""The last line of a traceback stands at the margin and begins with the name of the error."""


def log_last(run: Run, attempt: Attempt) -> tuple[list[Line], str]:
    """The last lines of an attempt, oldest first, and where they are from: log, host, or none.

    Host keeps its last lines in its last word, which may overtake the log.
    """
    lines = _stored(run, attempt.number, SHOWN)
    kept = attempt.host.get("log") if isinstance(attempt.host, dict) else None
    told = [str(text)[: 2 * WIDTH] for text in kept][-SHOWN:] if isinstance(kept, list) else []
    printed = [line.text for line in lines if line.text.strip()]
    if told and (not printed or told[-1][:WIDTH] != printed[-1][:WIDTH]):
        return [Line(None, None, text) for text in told], "host"
    return lines, "log" if lines else "none"


def log_signals(run: Run, attempt: Attempt, since: float) -> list[Signal]:
    """The lines since a moment (of the node's clock) that are known to tell of trouble, oldest first."""
    lines = _stored(run, attempt.number, LOOKED)
    last_word = attempt.message.strip()[:60]
    found: list[Signal] = []
    for place, line in enumerate(lines):
        if line.time is None or line.time < since or len(found) == MOST:
            continue
        if last_word and line.text.partition(": ")[2].startswith(last_word):
            continue  # the trainer prints its last word: that is the end, not a sign of it
        if (told := line_told(line.text)) is not None:
            code, title = told
            text = traceback_end(lines, place) if code == "traceback" else ""
            found.append(
                Signal(
                    kind="log",
                    code=code,
                    time=line.time,
                    title=title,
                    text=(text or line.text.strip())[:300],
                    level="error",
                    line=line.pk,
                )
            )
    return found


def line_told(text: str) -> tuple[str, str] | None:
    """Code and title of the trouble that a line tells of, or None."""
    if PROGRESS.search(text):
        return None
    for code, title, pattern in PATTERNS:
        match = pattern.search(text)
        if match and not ADVICE.search(text[: match.start()]):
            return code, title
    return None


def traceback_end(lines: Sequence[Line], place: int) -> str:
    """The error that a traceback beginning at this line ends with, "" when that is not there."""
    for line in lines[place + 1 : place + 1 + FRAMES_MOST]:
        match = RAISED.match(line.text.rstrip())
        if match:
            return match["what"]
    return ""


def _stored(run: Run, number: int, count: int) -> list[Line]:
    """The last lines of an attempt, oldest first. Each source has an index of its own numbers."""
    rows: list[Any] = []
    for source in SOURCES:
        mine = LogLine.objects.filter(run=run, attempt=number, source=source)
        newest = mine.order_by("-seq", "-number").annotate(begin=Left("text", 2 * WIDTH))
        rows += newest.values_list("time", "seq", "number", "pk", "begin")[:count]
    return [Line(pk, time, text) for time, _, _, pk, text in sorted(rows)[-count:]]
