"""Frames between a trainer and a generator's process: a JSON header and raw bytes, on a socket of their own.

A frame is the header's length (4 bytes, big-endian), the body's (8 bytes), the header in UTF-8, the body.
Nobody waits in here: what cannot be sent yet is kept, and what has not arrived whole is left for later.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from select import select
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import socket

LENGTHS = struct.Struct(">IQ")
PIECE = 1 << 20


class Frame(NamedTuple):
    """One message."""

    header: dict[str, Any]
    body: bytes


class Wire:
    """One end of the socket."""

    def __init__(self, socket: socket.socket) -> None:
        socket.setblocking(False)
        self._socket = socket
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self.ended = False
        """Whether the other side has gone; what it sent before is still given out."""

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def close(self) -> None:
        """The other side sees the end."""
        self._socket.close()

    # --- out -------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._out)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame, or as much of it as goes; `flush` sends the rest."""
        text = json.dumps(header).encode()
        self._out.append(memoryview(LENGTHS.pack(len(text), len(body)) + text))
        if body:
            self._out.append(memoryview(body))
        self.flush()

    def flush(self) -> None:
        """Send what goes without waiting."""
        while self._out and not self.ended:
            piece = self._out[0]
            try:
                sent = self._socket.send(piece[:PIECE])
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                return
            if sent == len(piece):
                self._out.popleft()
            else:
                self._out[0] = piece[sent:]

    # --- in --------------------------------------------------------------------------------------

    def receive(self) -> list[Frame]:
        """The frames that have arrived whole."""
        while not self.ended:
            try:
                piece = self._socket.recv(PIECE)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self.ended = True
                break
            self._in += piece
        found = []
        while (frame := self._cut()) is not None:
            found.append(frame)
        return found

    def _cut(self) -> Frame | None:
        """Take the first frame out of what has arrived."""
        if len(self._in) < LENGTHS.size:
            return None
        header, body = LENGTHS.unpack_from(self._in)
        first, last = LENGTHS.size + header, LENGTHS.size + header + body
        if len(self._in) < last:
            return None
        frame = Frame(json.loads(self._in[LENGTHS.size : first]), bytes(self._in[first:last]))
        del self._in[:last]
        return frame


def ready(wires: list[Wire], seconds: float) -> None:
    """Wait until one of them can be read, or written where something is pending, or time is over."""
    writers = [wire for wire in wires if wire.pending]
    select(wires, writers, [], seconds)
