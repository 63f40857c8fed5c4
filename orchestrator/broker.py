"""The filesystem broker, with messages that appear whole.

Kombu's own transport opens a message under its final name and then writes it: a consumer that looks
in between takes an empty file, and its worker ends with an unrecoverable error.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Puts and takes messages by renaming, which the kernel does at once."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        # Ordered by the clock of the wall: the other clock begins again at every boot.
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write_whole(os.path.join(self.data_folder_out, name), dumps(payload))

    def _get(self, queue: str) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = os.path.join(self.data_folder_in, name)
            taken = f"{path}.taken"
            try:
                os.rename(path, taken)
            except FileNotFoundError:  # another consumer was first
                continue
            with open(taken, encoding="utf-8") as file:
                text = file.read()
            os.unlink(taken)
            try:
                return loads(text)
            except ValueError:
                log.warning("a message for %s was damaged and is dropped: %s", queue, name)
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        bound = [list(entry) for entry in self.get_table(exchange)]
        entry = [routing_key or "", pattern or "", queue or ""]
        if entry not in bound:
            _write_whole(str(self._exchange_file(exchange)), dumps([entry, *bound]))


class Transport(filesystem.Transport):
    """What `filesystem://` means in this project."""

    Channel = Channel


def _write_whole(path: str, text: str) -> None:
    """Let a file appear under its name with all of its content."""
    draft = f"{path}.{uuid.uuid4().hex}.draft"
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(draft, path)


TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
