"""The engine's fixtures, for the tests of known bugs too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.engine.conftest import _signals, policy, runs, session, stop_after
from trainer.engine.orders import Orders
from trainer.engine.progress import Report
from trainer.engine.session import Session
from trainer.registry import family
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.methods import Answer

__all__ = ["_signals", "policy", "runs", "session", "stop_after"]


@pytest.fixture
def graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards that tell almost all answers apart: exact-match gives a number of the answer's text."""

    def score(self: Any, answer: Answer) -> float:
        return sum((i + 1) * ord(c) for i, c in enumerate(answer.text)) % 17 / 17

    monkeypatch.setattr(family("rewards")["exact-match"], "score", score)


@pytest.fixture
def new_session(tmp_path: Path) -> Callable[[], Session]:
    """Sessions one after the other, each with journals of its own."""
    count = iter(range(100))

    def make() -> Session:
        run = RunDir(tmp_path / f"session-{next(count)}")
        attempt = run.attempt(1)
        return Session(run, attempt, Report(attempt), Orders(run, attempt))

    return make
