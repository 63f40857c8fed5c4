"""One journal on its way to the server: what is read, what is under way, what has arrived."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.frames import LINE_BYTES, line_cut, line_stub, push_frame

if TYPE_CHECKING:
    from trainer.events import Source
    from trainer.journal import Tail

READ_BYTES = 256 << 10
READ_LINES = 2000


@dataclass
class Lane:
    """Pushes go out in order, several at a time; the server's cursor says which of them count."""

    source: Source
    tail: Tail
    window: int
    cursor: int = 0
    """seq of the last line that the server has."""
    sent: int = 0
    """seq of the last line that was sent on this connection."""
    waiting: deque[str] = field(default_factory=deque)
    """Lines behind `sent` that were read and did not fit the last frame."""
    in_flight: deque[int] = field(default_factory=deque)
    """Last seq of each push that is not answered yet."""
    asked: int = 0
    """Pushes sent since the start of `ship`."""
    rewinding: bool = False
    single: int = 0
    """Up to this seq lines go one at a time, because the server refused a push that held them."""
    refused: set[int] = field(default_factory=set)
    """Lines that the server refused by themselves: a stub goes in their place."""

    def begin(self, cursor: int) -> None:
        """Start behind the line where the server stands."""
        self.cursor = self.sent = cursor
        self.waiting.clear()
        self.in_flight.clear()
        self.rewinding = False
        self.tail.seek(cursor)

    def next_frame(self) -> str | None:
        """The next push, or None when nothing is waiting or enough is under way."""
        careful = self.careful
        if self.rewinding or len(self.in_flight) >= (1 if careful else self.window):
            return None
        if not self.waiting:
            if self.tail.seq < self.sent:
                # The file is shorter than what the server has: wait until it has grown past that.
                self.tail.seek(self.sent)
                if self.tail.seq < self.sent:
                    return None
            read = self.tail.read(most=READ_LINES, most_bytes=READ_BYTES)
            self.waiting.extend(line_cut(line) for line in read)
        lines = self._lines_for_a_frame(most=1 if careful else READ_LINES)
        if not lines:
            return None
        first = self.sent + 1
        self.sent += len(lines)
        self.in_flight.append(self.sent)
        self.asked += 1
        return push_frame(self.source, first, lines)

    def acked(self, cursor: int) -> bool:
        """Take the answer to the oldest push; whether the server has more than before."""
        expected = self.in_flight.popleft() if self.in_flight else cursor
        moved = cursor > self.cursor
        self.cursor = cursor
        if cursor != expected:
            # Pushes behind a gap count for nothing: wait for their answers, then send again.
            self.rewinding = True
        if not self.in_flight and (self.rewinding or cursor != self.sent):
            self.begin(cursor)
        return moved

    @property
    def answered(self) -> int:
        """Pushes since the start of `ship` that are no longer under way."""
        return self.asked - len(self.in_flight)

    @property
    def careful(self) -> bool:
        """Whether the next lines go one at a time."""
        return self.sent < self.single

    def suspect(self) -> None:
        """The server refused a push, maybe ours: find the faulty line, and let the rest pass."""
        if not self.in_flight:
            return
        first, last = self.cursor + 1, self.in_flight[-1]
        if first == last and self.single >= last:
            self.refused.add(last)
        self.single = max(self.single, last)

    @property
    def drained(self) -> bool:
        """Whether everything that was read has arrived."""
        return not (self.in_flight or self.rewinding or self.waiting) and self.cursor == self.sent

    def _lines_for_a_frame(self, most: int) -> list[str]:
        if self.waiting and self.sent + 1 in self.refused:
            return [line_stub(self.waiting.popleft())]
        lines: list[str] = []
        size = 0
        while self.waiting and len(lines) < most:
            size += len(self.waiting[0].encode()) + 1
            if lines and size > LINE_BYTES:
                break
            lines.append(self.waiting.popleft())
        return lines
