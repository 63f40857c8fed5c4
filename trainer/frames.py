"""The frames that `ship` sends: journal lines as they stand, cut only when one is too long for a frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trainer.events import encode

if TYPE_CHECKING:
    from trainer.events import Source

FRAME_BYTES = 1 << 20
"""Most that the server takes in one frame."""
LINE_BYTES = FRAME_BYTES - (64 << 10)
"""Most that the lines of one frame hold together."""
TEXT_CHARACTERS = 50_000
KEPT = frozenset({"seq", "time", "type", "step"})


def push_frame(source: Source, first: int, lines: list[str]) -> str:
    """One push; lines are joined as they stand, because parsing them again would change nothing."""
    return f'{{"op":"push","source":"{source}","first":{first},"events":[{",".join(lines)}]}}'


def line_cut(line: str) -> str:
    """The line itself when it fits a frame, else the same event with its long parts cut.

    The journal keeps the whole event; a frame that the server refuses would hold up all behind it.
    """
    if len(line) * 4 <= LINE_BYTES or len(line.encode()) <= LINE_BYTES:
        return line
    event: dict[str, Any] = json.loads(line)
    for key in ("token_ids", "logps"):
        event.pop(key, None)
    text = encode({key: _cut(value) for key, value in event.items()} | {"cut": True})
    if len(text.encode()) <= LINE_BYTES:
        return text
    kept = {key: value for key, value in event.items() if key in KEPT}
    return encode(kept | {"cut": True})


def line_stub(line: str) -> str:
    """An alert in the place of a line that the server refuses; the journal keeps the line itself."""
    event: dict[str, Any] = json.loads(line)
    message = f"The server refused line {event['seq']} ({event.get('type')}) of this journal."
    return encode(
        {
            "seq": event["seq"],
            "time": event["time"],
            "type": "alert",
            "level": "error",
            "code": "line-refused",
            "message": message,
        }
    )


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARACTERS:
        return value[:TEXT_CHARACTERS] + "…"
    if isinstance(value, list):
        return [_cut(item) for item in value[:1000]]
    return value
