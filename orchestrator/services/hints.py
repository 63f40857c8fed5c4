"""Tell every web process that something changed: PostgreSQL NOTIFY inside the current transaction.

A hint may always be lost: it carries ids, never facts, and every reader can ask again from its cursor.
"""

from __future__ import annotations

import json
from typing import Literal

from django.db import connection

CHANNEL = "anneal"

Kind = Literal["run", "points", "samples", "log", "want", "node"]


def hint(kind: Kind, **ids: str | int) -> None:
    """Say that the `kind` of data named by `ids` changed; heard when the transaction commits."""
    payload = json.dumps({"kind": kind, **ids}, separators=(",", ":"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
