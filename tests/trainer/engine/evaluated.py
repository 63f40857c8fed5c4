"""What tests of evaluations share: rows, and what runs journalled of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.journal import read_events
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from tests.trainer.engine.support import Runs

ALL = ["kind=evaluate", "evaluation.answers=all", "evaluation.samples_per_prompt=3"]


def rows_of(count: int = 5) -> list[dict[str, Any]]:
    """Rows of numbers to sort, as they are once they were loaded."""
    source = DataSource(source="noisy-sort", limit=count, options={"digits": 3})
    return rows_load(source, seed=0, wanted=frozenset({"prompt"})).rows


def found_of(runs: Runs, name: str, kind: str) -> list[dict[str, Any]]:
    """The events of a kind of all attempts, in the order in which they were journalled."""
    run = runs.dir(name)
    return [
        event
        for attempt in run.attempts()
        for event in read_events(run.attempt(attempt).journal("samples"))
        if event["type"] == kind
    ]


def answers(runs: Runs, name: str) -> list[dict[str, Any]]:
    """The answers of all attempts."""
    return found_of(runs, name, "answer")


def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without the place and the time of their lines."""
    return [{k: v for k, v in event.items() if k not in ("seq", "time")} for event in events]


def torn(runs: Runs, name: str, lines: int) -> None:
    """Leave the first lines of a journal and half of the next one, as a kill in the middle of a write does."""
    path = runs.dir(name).attempt(1).journal("samples")
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:lines]) + kept[lines][:40])
