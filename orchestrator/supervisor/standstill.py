"""Notices a part that lives and stands still: nothing starts the dead again while it does not die.

A part is judged by several missed looks and never by one, and not at all when whoever looks stood still as well.
"""

from __future__ import annotations

import http.client
import os
import threading
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from trainer.liveness import Steadiness, Watch

if TYPE_CHECKING:
    from pathlib import Path

HUNG_VARIABLE = "ANNEAL_HUNG"
HUNG, HUNG_LEAST = 20.0, 3.0
"""Seconds without a sign of life after which a part stands still."""
WORK = 3.0
"""How many times as long the control part may begin no task: a large plan takes its time."""
MISSES = 3
SHARE = 0.25
"""Of those seconds: how long one question waits for its answer, and how far questions lie apart."""


def hung_after() -> float:
    """ANNEAL_HUNG, or 20 seconds. Raises ValueError for what is no number of seconds."""
    text = os.environ.get(HUNG_VARIABLE, "").strip()
    try:
        seconds = float(text or HUNG)
    except ValueError:
        seconds = 0.0
    if not HUNG_LEAST <= seconds <= 3600:
        raise ValueError(
            f"{HUNG_VARIABLE} is {text!r}; it must be a number of seconds from {HUNG_LEAST:g} to 3600"
        )
    return seconds


class Sign(Protocol):
    """A sign of life that is looked for."""

    def began(self, now: float) -> None:
        """Count anew: the part was just started, or nobody can be blamed."""

    def misses(self, now: float) -> str:
        """Why the part stands still, in words; "" while it does not."""


class TouchSign:
    """A file that a part touches."""

    def __init__(self, path: Path, limit: float, words: str = "it gave no sign of life") -> None:
        self.watch = Watch(path, limit)
        self.words = words

    def began(self, now: float) -> None:
        """Count anew."""
        self.watch.again(now)

    def misses(self, now: float) -> str:
        """Why the part stands still."""
        silent = self.watch.hangs(now)
        return f"{self.words} for {silent:.0f} s" if silent else ""


class AnswerSign:
    """An answer of the web part, whatever it says."""

    def __init__(self, url: str, limit: float) -> None:
        self.url, self.limit = url, limit
        self._steady = Steadiness()
        self._heard: float | None = None
        """When it last answered; None until its first answer since it was started."""
        self._missed = 0
        self._asked_at = 0.0
        self._question: Question | None = None

    def began(self, now: float) -> None:
        """Count anew. Until its first answer it is starting, which is somebody else's to judge."""
        self._heard, self._missed, self._question = None, 0, None

    def misses(self, now: float) -> str:
        """Why the part stands still. Never waits: questions are asked in a thread."""
        if self._steady.overslept(now):
            self._heard = None if self._heard is None else now
            self._missed = 0
        if self._question is not None and self._question.settled:
            answered, self._question = self._question.answered, None
            self._missed = 0 if answered else self._missed + 1
            self._heard = now if answered else self._heard
        if self._question is None and now - self._asked_at >= SHARE * self.limit:
            self._asked_at = now
            self._question = Question(self.url, SHARE * self.limit)
        if self._heard is None or self._missed < MISSES or now - self._heard <= self.limit:
            return ""
        return f"it answered no request for {now - self._heard:.0f} s"


class Question:
    """One request in a thread of its own."""

    def __init__(self, url: str, within: float) -> None:
        self.answered = self.settled = False
        self._where, self._within = urlsplit(url), within
        threading.Thread(target=self._ask, name="question", daemon=True).start()

    def _ask(self) -> None:
        # Not urllib: a proxy in the environment must not stand between us and this machine.
        where = self._where
        connection = http.client.HTTPConnection(
            where.hostname or "", where.port, timeout=self._within
        )
        try:
            connection.request("GET", "/api/health")
            # 503 is an answer too: something else is down, and the web part says so.
            self.answered = connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
            self.settled = True


def database_answers(within: int = 3) -> bool:
    """Whether the database does; while it does not, whoever waits for it is not to blame."""
    import psycopg  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    parameters = connections["default"].get_connection_params()
    wanted = ("host", "port", "user", "password", "dbname")
    known = {name: parameters[name] for name in wanted if parameters.get(name)}
    try:
        with psycopg.connect(**known, connect_timeout=within, autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {within * 1000}")
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
