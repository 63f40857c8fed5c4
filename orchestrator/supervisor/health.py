"""Ask the web part whether everything works."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def is_healthy(url: str) -> bool:
    """Say whether `/api/health` answers 200: database, broker and nodes all pass."""
    # Not urllib: a proxy in the environment must not stand between us and this machine.
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=3)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
