"""Tell the story of an attempt line by line, as its trainer and its host would push it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.orchestrator.telemetry import push

if TYPE_CHECKING:
    from orchestrator.models import Run

SAVED = {"path": "x", "bytes": 5, "sha256": "c" * 64}


class Story:
    """One attempt whose steps lie `pace` seconds apart and which began `ago` seconds ago."""

    def __init__(self, run: Run, attempt: int = 1, ago: float = 600.0, pace: float = 1.0) -> None:
        self.run, self.attempt, self.pace = run, attempt, pace
        self.now = time.time() - ago
        self.seqs = {"trainer": 0, "host": 0}
        self.waiting: list[dict[str, Any]] = []

    def tell(self, *events: dict[str, Any], source: str = "trainer") -> Story:
        """Push events; their time is the story's, unless given."""
        told = []
        for event in events:
            self.seqs[source] += 1
            told.append({"seq": self.seqs[source], "time": self.now, **event})
        ack = push(self.run, told, attempt=self.attempt, source=source, first=told[0]["seq"])
        assert ack.cursor == self.seqs[source], ack
        self.run.refresh_from_db()
        return self

    def begin(self, step: int = 0) -> Story:
        """It loads, then trains from a step on."""
        self.tell({"type": "status", "state": "starting", "phase": "load", "step": 0})
        return self.tell({"type": "status", "state": "running", "phase": "train", "step": step})

    def steps(self, first: int, last: int, **values: Any) -> Story:
        """Steps with a loss that falls a little and a gradient that hums, unless values are given."""
        told = []
        for step in range(first, last + 1):
            self.now += self.pace
            usual = {"loss": 2.0 - step / 1e4, "grad_norm": 0.5 + 0.1 * (step * 7 % 11) / 11}
            self.seqs["trainer"] += 1
            event = {"type": "metrics", "step": step, "values": {**usual, **values}}
            told.append({"seq": self.seqs["trainer"], "time": self.now, **event})
        push(self.run, told, attempt=self.attempt, first=told[0]["seq"])
        return self

    def wait(self, seconds: float) -> Story:
        """Nothing happens."""
        self.now += seconds
        return self

    def save(self, step: int, **more: Any) -> Story:
        """A checkpoint."""
        return self.tell({"type": "checkpoint", "step": step, **SAVED, **more})

    def alert(
        self, code: str, level: str = "warning", source: str = "trainer", **more: Any
    ) -> Story:
        """Somebody raises an alert."""
        words = {"level": level, "code": code, "message": f"{code} told", **more}
        return self.tell({"type": "alert", **words}, source=source)

    def prints(self, *lines: str) -> Story:
        """Lines of the log."""
        return self.tell({"type": "log", "lines": list(lines), "stream": "out"}, source="host")

    def fails(self, cause: str, message: str, code: int | None = 1) -> Story:
        """The trainer says how it failed; then its host does."""
        word = {"type": "status", "state": "failed", "cause": cause, "message": message}
        self.tell(word)
        return self.host_word(cause, message, code)

    def host_word(self, cause: str, message: str, code: int | None = 1, **more: Any) -> Story:
        """Host's last word."""
        word = {"type": "status", "state": "failed", "cause": cause, "message": message}
        return self.tell({**word, "exit_code": code, "pid": 7, "log": [], **more}, source="host")

    def is_killed(self, code: int = -9, **more: Any) -> Story:
        """Host speaks for a trainer that was killed."""
        message = "The trainer was killed (SIGKILL)."
        word = {"type": "status", "state": "failed", "cause": "killed", "message": message}
        data = {"written_by": "host", "exit_code": code, "pid": 7, "log": more.get("log", [])}
        self.tell({**word, "data": data})
        return self.host_word("killed", message, code, **more)
