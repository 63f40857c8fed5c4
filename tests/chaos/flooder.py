"""A node that never waits for an answer: `python -m tests.chaos.flooder URL TOKEN LINES`.

Sends one push of so many lines again and again until the server ends it; prints how often, and the last
thing that it heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

MOST = 1_000_000


def push(first: int, count: int = 1, keys: int = 4) -> str:
    """Metrics lines from `first` on, as one frame."""
    events = [
        {
            **{"seq": seq, "time": 1e9 + seq, "type": "metrics", "step": seq},
            "values": {f"m{key}": float(seq) for key in range(keys)},
        }
        for seq in range(first, first + count)
    ]
    return json.dumps({"op": "push", "source": "trainer", "first": first, "events": events})


async def flood(url: str, token: str, lines: int) -> tuple[int, dict[str, Any]]:
    """Push until the connection ends."""
    frame, sent = push(7, lines), 0
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, compression=None, proxy=None) as line:
        hearing = asyncio.create_task(last_word(line))
        with contextlib.suppress(ConnectionClosed):
            while sent < MOST:
                await line.send(frame)
                sent += 1
                # Without a pause of its own `send` would let nobody listen.
                await asyncio.sleep(0)
        return sent, await hearing


async def last_word(line: Any) -> dict[str, Any]:
    """The last thing that the server said before the connection ended."""
    said: dict[str, Any] = {"op": "nothing"}
    with contextlib.suppress(ConnectionClosed):
        async for text in line:
            said = json.loads(text)
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(flood(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
