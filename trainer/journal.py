"""An append-only journal: one writer, one JSON event a line, `seq` is the line's number."""

from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING, Any, Self

from trainer.events import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DURABLE = frozenset({"status", "checkpoint"})
"""Event types that are on the disk (fsync) before the writer goes on."""


class Journal:
    """The writer of one journal file. A torn last line is cut when the file is opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.seq = _cut_torn_line(path)
        self._file = path.open("ab", buffering=0)

    def append(self, type: str, **fields: Any) -> int:
        """Write one event and return its seq. Raises OSError as `extend` does."""
        return self.extend(type, [fields])

    def extend(self, type: str, events: Sequence[dict[str, Any]]) -> int:
        """Write events of one type by a single call and return the last seq.

        Raises OSError when the disk is full; what was written of them is cut, so that the journal stays readable.
        """
        now = round(time.time(), 6)
        lines = [
            encode({"seq": seq, "time": now, "type": type, **fields}) + "\n"
            for seq, fields in enumerate(events, start=self.seq + 1)
        ]
        data = "".join(lines).encode()
        start = self._file.tell()
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError:
            self._file.truncate(start)
            raise
        if type in DURABLE:
            os.fsync(self._file.fileno())
        self.seq += len(lines)
        return self.seq

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tail:
    """A reader that follows a journal; it yields complete lines only, from any position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        self._offset = 0

    def seek(self, seq: int) -> None:
        """Stand behind line `seq`, so that the next read begins with seq + 1."""
        if seq < self.seq:
            self.seq, self._offset = 0, 0
        while self.seq < seq:
            lines = self.read(most=seq - self.seq)
            if not lines:
                break

    def read(self, most: int = 1000, most_bytes: int = 1 << 20) -> list[str]:
        """Up to `most` complete lines behind the position, without line ends; [] when there is none.

        At least one line is returned when one is complete, however long it is.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        lines: list[str] = []
        size = 0
        with file:
            file.seek(self._offset)
            while len(lines) < most and size < most_bytes:
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                lines.append(line[:-1].decode())
                size += len(line)
                self._offset += len(line)
        self.seq += len(lines)
        return lines


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Every complete event of a journal file."""
    tail = Tail(path)
    while lines := tail.read():
        for line in lines:
            yield json.loads(line)


def last_event(path: Path) -> dict[str, Any] | None:
    """The last complete event of a journal file, or None."""
    last = None
    for last in read_events(path):  # noqa: B007
        pass
    return last


def _cut_torn_line(path: Path) -> int:
    """Cut an incomplete last line; return the number of complete ones."""
    if not path.exists():
        return 0
    lines = 0
    with path.open("rb+") as file:
        complete = 0
        while line := file.readline():
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            lines += 1
        file.truncate(complete)
    return lines
