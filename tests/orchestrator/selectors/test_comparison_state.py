"""The state of a comparison, fact by fact."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.selectors.comparison_state import RunFact, comparison_state

QUEUED = RunFact("a", "queued", "Waits for a free slot.")
RUNNING = RunFact("b", "running", "")
FAILED = RunFact("c", "failed", "The judge at http://judge did not answer.")
DONE = RunFact("d", "finished", "")
LOST = RunFact("e", "lost", "n1 fell silent.")
STOPPED = RunFact("f", "stopped", "Stopped by ada.")


@pytest.mark.parametrize(
    ("facts", "runs", "state", "words"),
    [
        ({"missing": 0, "there": 9}, [DONE], "ready", ""),
        ({"missing": 0, "there": 9}, [RUNNING], "ready", ""),
        ({"missing": 0, "there": 9, "stopped": True}, [STOPPED], "ready", ""),
        ({"missing": 0, "there": 8, "failed": 1}, [DONE], "incomplete", "1 answers failed"),
        ({"missing": 0, "there": 0, "failed": 9}, [DONE], "failed", "never as 0"),
        ({"missing": 5, "there": 4}, [DONE, RUNNING], "running", ""),
        ({"missing": 5, "there": 4}, [FAILED, RUNNING], "running", ""),
        ({"missing": 9, "there": 0}, [QUEUED, QUEUED], "waiting", "Waits for a free slot."),
        ({"missing": 5, "there": 4}, [DONE, LOST], "waiting", "n1 fell silent."),
        ({"missing": 5, "there": 4}, [DONE, FAILED], "incomplete", "http://judge did not answer"),
        ({"missing": 9, "there": 0}, [FAILED], "failed", "http://judge did not answer"),
        ({"missing": 9, "there": 0}, [], "failed", "nothing works on them"),
        ({"missing": 5, "there": 4, "stopped": True}, [STOPPED], "stopped", "5 answers missing"),
    ],
)
def test_facts_make_the_state(
    facts: dict[str, Any], runs: list[RunFact], state: str, words: str
) -> None:
    whole = {"failed": 0, "stopped": False, **facts}
    found, reason = comparison_state(runs=runs, **whole)
    assert found == state
    assert words in reason and bool(reason) == bool(words)
