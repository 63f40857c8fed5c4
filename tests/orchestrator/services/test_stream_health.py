"""What becomes of pushes is counted beside the data, cheaply, and never at its cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError

from orchestrator.models import StreamHealth
from orchestrator.services import meters, stream_health
from orchestrator.services.entries import PushError
from orchestrator.services.stream_health import counts_write
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import lines, metrics, push, sample, stored_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    """Forget what other tests counted."""
    stream_health._tallies.clear()
    stream_health._written.clear()
    yield
    stream_health._tallies.clear()
    stream_health._written.clear()


def health(run: Run, source: str = "trainer", attempt: int = 1) -> StreamHealth:
    counts_write(run_id=run.pk, attempt=attempt)
    return StreamHealth.objects.get(run=run, attempt=attempt, source=source)


def test_every_push_is_counted_by_what_became_of_it(run: Run) -> None:
    push(run, lines(1, 4))
    push(run, lines(1, 4))  # an answer was lost
    push(run, lines(3, 8))  # overlaps: 3 and 4 are stored, 5 to 8 come again
    push(run, lines(7, 9))  # 5 and 6 were lost
    push(run, lines(5, 9))
    with pytest.raises(PushError):
        push(run, [{"seq": 10, "time": 0, "type": "dance"}])
    row = health(run)
    assert (row.pushes, row.highest) == (2, 9)
    assert (row.repeated_pushes, row.repeated_lines) == (2, 4 + 2)
    assert (row.early_pushes, row.early_lines) == (1, 3)
    assert row.refused_pushes == 1 and "dance" in row.refused_why
    assert stored_steps(run) == list(range(1, 10))


def test_each_journal_and_attempt_has_its_own_counts(run: Run) -> None:
    push(run, lines(1, 2))
    push(run, [sample(1)], source="samples")
    attempt_add(run, 2)
    push(run, lines(1, 1), attempt=2)
    assert [health(run).pushes, health(run, "samples").pushes, health(run, attempt=2).pushes] == [
        1, 1, 1,
    ]  # fmt: skip


def test_the_lag_is_that_of_the_oldest_line(run: Run) -> None:
    old, new = ({**metrics(seq), "time": time.time() - ago} for seq, ago in ((1, 5.0), (2, 0.0)))
    push(run, [old, new])
    assert health(run).lags == pytest.approx([5.0], abs=0.5)


def test_only_the_newest_lags_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_health, "WRITE_EVERY", 0.0)
    for seq in range(1, stream_health.LAGS_KEPT + 11):
        push(run, [{**metrics(seq), "time": time.time() - 1000 * seq}])
    lags = health(run).lags
    assert len(lags) == stream_health.LAGS_KEPT
    assert lags[0] == pytest.approx(11_000, abs=20)
    assert lags == sorted(lags)


def test_counts_are_written_at_most_once_a_second(
    run: Run, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Any] = []
    write = stream_health._write
    monkeypatch.setattr(stream_health, "_write", lambda key: (writes.append(key), write(key)))
    for first in range(1, 40, 2):
        push(run, lines(first, first + 1))
    assert len(writes) == 1
    assert health(run).pushes == 20


def test_a_failure_to_count_costs_no_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise DatabaseError("no room")

    monkeypatch.setattr(stream_health.transaction, "atomic", lambda: broken())
    stream_health._count((run.pk, 1, "trainer"), "repeated", lines=1)
    assert not StreamHealth.objects.exists()
    assert not stream_health._tallies


def test_a_deleted_run_leaves_no_counts(run: Run) -> None:
    run_id = run.pk
    push(run, lines(1, 2))
    run.delete()
    stream_health._count((run_id, 1, "trainer"), "repeated", lines=1)
    counts_write(run_id=run_id, attempt=1)
    assert not StreamHealth.objects.exists()


def test_a_name_that_is_no_journal_makes_no_row(run: Run) -> None:
    with pytest.raises(PushError):
        push(run, lines(1, 1), source="diary\x00" * 100)
    assert not StreamHealth.objects.exists() and not stream_health._tallies


def test_a_nul_in_a_refusal_can_be_kept(run: Run) -> None:
    with pytest.raises(PushError):
        push(run, [{"seq": 1, "time": 0, "type": "a\x00b"}])
    assert health(run).refused_pushes == 1


def test_a_rate_is_that_of_whole_seconds() -> None:
    rate = meters.PerSecond(window=4)
    for moment, count in ((10.1, 5), (10.9, 5), (12.0, 10), (13.5, 1000)):
        rate.add(count, moment)
    assert rate.rate(13.9) == 20 / 4
    assert rate.rate(16.5) == (10 + 1000) / 4
    assert rate.rate(40.0) == 0
