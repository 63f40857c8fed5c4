"""Let daphne say why it ends a websocket: by itself it drops the connection without a word.

A frame over the limits of the command line (`supervisor.parts`) is refused at its header, before it is
read; the peer then finds close code 1009 and the sizes instead of a broken connection.
"""

from __future__ import annotations

import sys
from typing import Any


def say_why() -> None:
    """Change daphne in a process that it serves; does nothing anywhere else."""
    server: Any = sys.modules.get("daphne.server")
    if server is None:
        return

    class TellingFactory(server.WebSocketFactory):
        """Sends a close frame to whoever breaks the protocol, and drops those who ignore it."""

        def resetProtocolOptions(self) -> Any:
            """Start from the library's defaults but for one."""
            super().resetProtocolOptions()
            self.failByDrop = False

    server.WebSocketFactory = TellingFactory
