"""The line between the first machine of a gang and each other one: who came, who lost a process, and how it ended.

JSON, one object a line. A member begins with {"secret", "attempt", "index"}; once all have come each hears
{"store": port}, where its processes meet the others'. Later it says {"works": true} while they work, and
{"lost": word} when one of them ended; the first one says {"end": word} when it ends. A line that breaks is an end
as well: nobody outlives the others.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from trainer.gang import listen, notice_absence
from trainer.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from trainer.gang import Gang
    from trainer.verdict import Word

HELLO_WITHIN = 10.0
"""Seconds for the first line of whoever connects."""
LINE_MOST = 1 << 16
CONNECT_WITHIN = 30.0
AGAIN_AFTER = 0.5
AFTERMATH = 1.0
"""Seconds for which a crash may be what another member's death has caused, whose own word is waited for."""
HEARD_WITHIN = 2.0
"""Seconds that the others have to hear the end."""


class Meeting:
    """The first machine's side."""

    def __init__(
        self, gang: Gang, attempt: int, store: int, works: Callable[[int], object]
    ) -> None:
        """`store`: the port where the processes meet; `works` is told which member's processes work."""
        self.gang, self.attempt, self.store = gang, attempt, store
        self._works = works
        self._listening = listen(gang.address, 2 * gang.size)
        self.port: int = self._listening.getsockname()[1]
        self._lines: dict[int, socket.socket] = {}
        self._lost: list[tuple[float, Verdict]] = []
        self._lock = threading.Lock()
        self._spoke: set[int] = set()
        """Members that have told of a death themselves."""
        self._ending = False
        threading.Thread(target=self._accept, name="meeting", daemon=True).start()

    def missing(self) -> list[str]:
        """The machines that have not come yet."""
        return [self.gang.names[index] for index in self.gang.others() if index not in self._lines]

    def begin(self) -> None:
        """All have come: tell them where their processes meet."""
        for line in list(self._lines.values()):
            _say(line, {"store": self.store})

    def lost(self) -> Verdict | None:
        """How a member ended before the others; None while all work."""
        with self._lock:
            found = list(self._lost)
        cause = next((word for _, word in found if word.cause != "crash"), None)
        if cause is not None or not found:
            return cause
        first, word = found[0]
        return word if time.monotonic() - first > AFTERMATH else None

    def end(self, verdict: Word) -> None:
        """Tell all how it ended, and part."""
        self._ending = True
        _part(self._listening)
        lines = list(self._lines.values())
        for line in lines:
            _say(line, {"end": _plain(verdict)})
        deadline = time.monotonic() + HEARD_WITHIN
        while self._lines and time.monotonic() < deadline:
            time.sleep(0.02)
        for line in lines:
            _part(line)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(line,), daemon=True).start()

    def _attend(self, line: socket.socket) -> None:
        """Hear one member from its first line to its last."""
        index = 0
        words = _lines(line)
        try:
            line.settimeout(HELLO_WITHIN)
            index = self._let_in(line, next(words, {}))
            if not index:
                return
            line.settimeout(None)
            notice_absence(line)
            for said in words:
                if said.get("works"):
                    self._works(index)
                if isinstance(word := said.get("lost"), dict):
                    self._spoke.add(index)
                    self._note(_verdict(word))
        except (OSError, ValueError):
            pass  # the line broke: what that means is said below
        finally:
            words.close()
            line.close()
            if index:
                self._gone(index)

    def _let_in(self, line: socket.socket, said: dict[str, Any]) -> int:
        """The member that a first line proves to come from; 0 for a stranger, or one that is here already."""
        secret, index = said.get("secret"), said.get("index")
        known = isinstance(secret, str) and hmac.compare_digest(
            secret.encode(errors="replace"), self.gang.secret.encode()
        )
        if not known or said.get("attempt") != self.attempt or index not in self.gang.others():
            return 0
        with self._lock:
            if index in self._lines:
                return 0
            self._lines[index] = line
        return int(index)

    def _gone(self, index: int) -> None:
        del self._lines[index]
        if not (self._ending or index in self._spoke):
            self._note(
                Verdict(
                    "failed",
                    "killed",
                    f"{_machine(self.gang, index)} left without a word: its processes were ended, or it is out of "
                    "reach.",
                )
            )

    def _note(self, verdict: Verdict) -> None:
        with self._lock:
            self._lost.append((time.monotonic(), verdict))


class Line:
    """Another machine's side."""

    def __init__(self, gang: Gang, attempt: int, address: str, port: int) -> None:
        """Connect, and say who comes. Raises OSError when nobody is there."""
        self.gang = gang
        self.store = 0
        """Where the processes meet, once all machines have come."""
        self.end: Verdict | None = None
        """How the first machine said that it ended."""
        self._socket = _connected(address, port)
        notice_absence(self._socket)
        hello = {"secret": gang.secret, "attempt": attempt, "index": gang.index}
        _say(self._socket, hello)
        threading.Thread(target=self._hear, name="line", daemon=True).start()

    def works(self) -> None:
        """Say that the processes here work."""
        _say(self._socket, {"works": True})

    def lost(self, verdict: Word) -> None:
        """Say that a process here has ended before the others."""
        _say(self._socket, {"lost": _plain(verdict)})

    def close(self) -> None:
        """Part."""
        _part(self._socket)

    def _hear(self) -> None:
        try:
            for said in _lines(self._socket):
                if isinstance(port := said.get("store"), int):
                    self.store = port
                if isinstance(word := said.get("end"), dict):
                    self.end = _verdict(word)
                    return
        except (OSError, ValueError):
            pass  # the line broke: nobody there goes on with us
        self.end = Verdict(
            "failed",
            "killed",
            f"{_machine(self.gang, 0)}, where the training is led, left without a word.",
        )


def _connected(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + CONNECT_WITHIN
    while True:
        try:
            line = socket.create_connection((address, port), timeout=HELLO_WITHIN)
            line.settimeout(None)
            return line
        except OSError as error:
            if time.monotonic() > deadline:
                raise OSError(f"{address}:{port} does not answer: {error}") from error
            time.sleep(AGAIN_AFTER)


def _lines(line: socket.socket) -> Generator[dict[str, Any]]:
    """What the other side says. Raises ValueError for what is none of this, OSError when the line breaks."""
    with line.makefile("rb") as file:
        while raw := file.readline(LINE_MOST):
            said = json.loads(raw)
            if not isinstance(said, dict):
                raise ValueError("a line must be an object")
            yield said


def _say(line: socket.socket, words: dict[str, Any]) -> None:
    """Say something; a line that broke is noticed by whoever listens to it."""
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(words).encode() + b"\n")


def _part(line: socket.socket) -> None:
    """End a line that a thread may still listen to."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def _plain(word: Word) -> dict[str, str]:
    return {"state": word.state, "cause": word.cause, "message": word.message[:4000]}


def _verdict(word: dict[str, Any]) -> Verdict:
    known = {name: str(word.get(name, "")) for name in ("state", "cause", "message")}
    return Verdict(known["state"] or "failed", known["cause"] or "crash", known["message"])


def _machine(gang: Gang, index: int) -> str:
    return f"{gang.names[index]} (machine {index + 1} of {gang.size})"
