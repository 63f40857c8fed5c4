"""Spans arrive exactly once like everything else, and the newest of them are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from orchestrator.models import Run, State, StepSpans
from orchestrator.selectors.plan_lines import lines_read
from orchestrator.services import spans as trimming
from orchestrator.services.ingest import PushError
from orchestrator.services.spans import spans_trim
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import T0, metrics, push, spans, stored_steps

if TYPE_CHECKING:
    from pytest import MonkeyPatch

pytestmark = pytest.mark.django_db


def stored(run: Run) -> list[tuple[int, int, int]]:
    rows = StepSpans.objects.filter(run=run).order_by("attempt", "seq")
    return list(rows.values_list("attempt", "seq", "step"))


def test_a_line_is_stored_as_it_was_written(run: Run) -> None:
    line = spans(2, 7, ("rollout", 1.5), ("update", 0.25), process="rank 1", steps=3, folded=9)
    push(run, [metrics(1, 7), line])
    row = StepSpans.objects.get(run=run)
    assert (row.attempt, row.seq, row.step, row.process) == (1, 2, 7, "rank 1")
    assert (row.steps, row.start, row.folded) == (3, T0 + 70, 9)
    assert row.spans == [["rollout", 0.0, 1.5], ["update", 1.5, 1.75]]
    assert stored_steps(run) == [7], "the metrics beside it are as ever"


def test_a_push_that_comes_again_or_too_early_or_overlaps_adds_nothing(run: Run) -> None:
    lines = [metrics(1, 1), spans(2, 1), metrics(3, 2), spans(4, 2)]
    push(run, lines)
    for again in (lines, lines[1:], [spans(6, 3)], [spans(4, 2), spans(5, 3)]):
        assert not push(run, again).applied
    assert stored(run) == [(1, 2, 1), (1, 4, 2)]


def test_a_faulty_line_stores_nothing_of_its_push(run: Run) -> None:
    with pytest.raises(PushError, match=r"a span from 2\.0 to 1\.0"):
        push(run, [metrics(1), spans(2, 1), spans(3, 2, spans=[["update", 2.0, 1.0]])])
    assert stored(run) == [] and stored_steps(run) == []


@pytest.mark.parametrize("source", ["samples", "host"])
def test_only_the_trainer_has_spans(run: Run, source: str) -> None:
    with pytest.raises(PushError, match="the trainer's journal"):
        push(run, [spans(1, 1)], source=source)


def test_a_fenced_attempt_s_late_lines_are_stored_and_stand_for_nothing(run: Run) -> None:
    push(run, [spans(seq, seq) for seq in range(1, 5)])
    attempt_add(run, 2)
    push(run, [spans(1, 3), spans(2, 4), spans(3, 5)], attempt=2)
    # Attempt 1 was given up, and says something after all.
    push(run, [spans(5, 5), spans(6, 6)], first=5)
    assert len(stored(run)) == 9
    assert [(line.attempt, line.step) for line in lines_read(run)] == [
        *[(1, 1), (1, 2), (1, 6)],
        *[(2, 3), (2, 4), (2, 5)],
    ]


def test_the_newest_lines_of_each_process_are_kept(run: Run, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "TRIM", trimming.TRIM.replace(f"> {trimming.KEPT}", "> 3"))
    lines = [spans(seq, seq, process="trainer" if seq % 2 else "rank 1") for seq in range(1, 13)]
    push(run, lines)
    attempt_add(run, 2)
    push(run, [spans(1, 8)], attempt=2)
    assert spans_trim() == 7
    assert stored(run) == [(1, 8, 8), (1, 9, 9), (1, 10, 10), (1, 11, 11), (1, 12, 12), (2, 1, 8)]
    assert spans_trim() == 0


def test_a_run_that_ended_long_ago_is_looked_at_no_more(run: Run, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "TRIM", trimming.TRIM.replace(f"> {trimming.KEPT}", "> 1"))
    push(run, [spans(1, 1), spans(2, 2)])
    runs = Run.objects.filter(pk=run.pk)
    runs.update(state=State.FINISHED, ended=timezone.now() - timedelta(hours=2))
    assert spans_trim() == 0
    runs.update(ended=timezone.now())
    assert spans_trim() == 1
