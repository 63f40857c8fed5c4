"""Seams of a run's curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.models import Event
from orchestrator.selectors.run_seams import run_began, run_seams

if TYPE_CHECKING:
    from orchestrator.models import Run


def told(run: Run, attempt: int, type: str, source: str = "trainer", **data: Any) -> None:
    Event.objects.create(
        run=run, attempt=attempt, source=source, type=type, time=timezone.now(), data=data
    )


def test_each_later_attempt_is_one_seam_where_it_begins_to_train(run: Run) -> None:
    told(run, 1, "status", state="running", phase="train", step=0)
    told(run, 2, "status", state="starting", phase="load")
    told(run, 2, "status", state="running", phase="train", step=50)
    told(run, 2, "status", state="running", phase="eval", step=60)
    told(run, 2, "status", "server", state="running")
    assert [(seam["step"], seam["label"]) for seam in run_seams(run)] == [(50, "attempt 2")]


def test_a_knob_that_changed_while_it_ran_is_a_seam(run: Run) -> None:
    told(
        run,
        1,
        "alert",
        level="info",
        code="knobs",
        step=20,
        message="from step 21: optimizer.lr = 1e-05",
    )
    told(run, 1, "alert", level="warning", code="knobs", step=30, message="refused: seed")
    told(run, 1, "alert", level="info", code="rows-dropped", step=0, message="3 rows left out")
    assert [(seam["step"], seam["label"], seam["kind"]) for seam in run_seams(run)] == [
        (20, "optimizer.lr = 1e-05", "knob")
    ]


def test_a_run_begins_with_its_first_word_by_its_nodes_clock(run: Run) -> None:
    assert run_began(run) == run.created.timestamp()
    run.started = timezone.now()
    assert run_began(run) == run.started.timestamp()
    told(run, 2, "status", state="running")
    told(run, 1, "status", "host", state="starting")
    told(run, 1, "status", "server", state="queued")
    first = Event.objects.get(attempt=1, source="host").time
    assert run_began(run) == first.timestamp()
