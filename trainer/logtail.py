"""Follows log.txt and hands out its lines as text that can be shown anywhere."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LINE_BYTES = 4096
CHUNK_BYTES = 64 << 10
LAST_LINES = 20

_LINE_END = re.compile(rb"\r\n|\r|\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LogTail:
    """A reader of what the trainer printed, from a byte offset on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        """Bytes of the file that were handed out."""
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    def read(self, *, final: bool = False) -> list[str]:
        """The complete lines of the next chunk; with `final`, an unfinished last line too."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                chunk = file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return []
        lines: list[str] = []
        start = 0
        for match in _LINE_END.finditer(chunk):
            if match.end() == len(chunk) and match[0] == b"\r" and not final:
                break  # the other half of a line end may follow
            lines.append(text_of(chunk[start : match.start()]))
            start = match.end()
        rest = len(chunk) - start
        # A line without end is cut where it gets too long, so that it cannot grow for ever.
        if rest >= LINE_BYTES or (final and rest):
            lines.append(text_of(chunk[start:]))
            start = len(chunk)
        self.offset += start
        self.last.extend(line for line in lines if line.strip())
        return lines


def text_of(raw: bytes) -> str:
    """One line as text: cut when long, bytes that are no UTF-8 and control characters spelled out."""
    cut = raw[:LINE_BYTES].decode(errors="backslashreplace")
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", cut)
    return text if len(raw) <= LINE_BYTES else f"{text} … ({len(raw)} bytes)"
