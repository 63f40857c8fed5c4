"""Fixtures of the engine's tests."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.engine.support import Runs, make_policy
from trainer.engine.orders import Orders
from trainer.engine.progress import Report
from trainer.engine.session import Session
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.engine.policy import Policy


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run listens to signals; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session that nobody gives orders to."""
    run = RunDir(tmp_path / "session")
    attempt = run.attempt(1)
    report = Report(attempt)
    return Session(run, attempt, report, Orders(run, attempt))


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give an order as soon as the metrics of a step are written."""

    def arrange(run: RunDir, attempt: int, step: int, control: Any, key: str = "loss") -> None:
        write = Report.metrics

        def metrics(self: Report, at: int, values: dict[str, float]) -> None:
            write(self, at, values)
            if at == step and key in values:
                control.write(run.attempt(attempt).control)

        monkeypatch.setattr(Report, "metrics", metrics)

    return arrange


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write rows to a file; gives the override that evaluates on them."""

    def write(rows: list[dict[str, Any]], name: str = "rows") -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f'data.eval=[{{ source = "{path}" }}]'

    return write
