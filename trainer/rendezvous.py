"""Where the first machine of a gang awaits the others: asked of the server, with the lease of this attempt."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASK_EVERY = 0.5
TIMEOUT = 10.0


class Over(Exception):
    """The attempt is not to be worked for any more; the text says why."""


def rendezvous(lease: Path, turn: Callable[[], object]) -> tuple[str, int]:
    """Address and port, once the first machine has told them; `turn` is called between questions.

    A server that does not answer is asked again. Raises Over when the attempt has ended, and what `turn` raises.
    """
    while True:
        turn()
        # Read again each time: a server that came back on another port rewrites it.
        told = json.loads(lease.read_text())
        place = _ask(told["server"], told["token"])
        if place is not None:
            return place
        time.sleep(ASK_EVERY)


def _ask(server: str, token: str) -> tuple[str, int] | None:
    """One question; None when nobody knows yet, or nobody answers."""
    scheme, _, rest = server.rstrip("/").partition("://")
    url = f"{'https' if scheme == 'wss' else 'http'}://{rest}/api/rendezvous"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    # A proxy in the environment must not stand between us and this machine.
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= 500 or error.code == 429:
                return None
            raise Over(f"the server says {error.code}: {_detail(error.read())}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None
    return (str(found["address"]), int(found["port"])) if found["ready"] else None


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body).get("detail", ""))
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
