"""Housekeeping deletes what was kept long enough, says so, and gives space back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.utils import timezone

from orchestrator.models import (
    Block,
    Event,
    IdempotencyKey,
    LoginLink,
    LogLine,
    Run,
    Sample,
    State,
)
from orchestrator.services import retention
from orchestrator.services.compaction import pack_due
from tests.orchestrator.conftest import SPEC, attempt_add
from tests.orchestrator.telemetry import T0, metrics, push, sample, stored_steps

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def end(run: Run, days: float) -> None:
    ended = timezone.now() - timedelta(days=days)
    Run.objects.filter(pk=run.pk).update(state=State.FINISHED, ended=ended)


@pytest.fixture
def told(run: Run) -> Run:
    """A run with a point, a log line and a sample."""
    push(run, [metrics(1), {"seq": 2, "time": T0, "type": "log", "lines": ["one", "two"]}])
    push(run, [sample(1)], source="samples")
    return run


def held() -> tuple[int, int]:
    return LogLine.objects.count(), Sample.objects.count()


def test_everything_is_kept_unless_asked(told: Run) -> None:
    end(told, 10_000)
    assert retention.retain() == 0
    assert held() == (2, 1)


def test_log_lines_and_samples_go_after_their_days(told: Run, settings: Any) -> None:
    settings.ANNEAL_LOG_DAYS, settings.ANNEAL_SAMPLE_DAYS = 30, 60
    assert retention.retain() == 0
    end(told, 29)
    assert retention.retain() == 0
    end(told, 31)
    assert retention.retain() == 1
    assert held() == (0, 1)
    end(told, 61)
    assert retention.retain() == 1
    assert held() == (0, 0)
    messages = [event.data["message"] for event in Event.objects.order_by("pk")]
    assert messages == [
        "2 log lines were deleted, 30 days after the run had ended",
        "1 sample was deleted, 60 days after the run had ended",
    ]
    assert stored_steps(told) == [1]
    assert retention.retain() == 0


def test_spent_keys_and_links_go(ada: User) -> None:
    for age in (1, 8):
        moment = timezone.now() - timedelta(days=age)
        key = IdempotencyKey.objects.create(user=ada, key=f"k{age}", request="x")
        IdempotencyKey.objects.filter(pk=key.pk).update(created=moment)
        LoginLink.objects.create(user=ada, digest=f"d{age}", expires=moment)
    retention.retain()
    assert [key.key for key in IdempotencyKey.objects.all()] == ["k1"]
    assert [link.digest for link in LoginLink.objects.all()] == ["d1"]


def size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [Block._meta.db_table])
        return int(cursor.fetchone()[0])


def load(run: Run) -> None:
    """100,000 points, packed."""
    for first in range(1, 10_001, 1000):
        events = [
            metrics(n, n, **{f"m{k}": (n * 7919 + k) % 1001 / 7 for k in range(10)})
            for n in range(first, first + 1000)
        ]
        push(run, events)
    end(run, 0)
    while pack_due().points:
        pass


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_deleting_a_run_frees_its_space(
    run: Run, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database gives the end of a table back and uses holes again."""
    monkeypatch.setattr(retention, "DEAD_ROWS", 1)
    empty = size()
    load(run)
    full = size()
    assert full - empty > 100_000 * 16
    run.delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    assert Block._meta.db_table in retention.reclaim()
    assert size() - empty < (full - empty) / 10
    for name in ("second", "third"):
        other = Run.objects.create(name=name, owner=ada, spec=SPEC, attempt=1)
        attempt_add(other, 1)
        load(other)
    both = size()
    Run.objects.get(name="second").delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    retention.reclaim()
    fourth = Run.objects.create(name="fourth", owner=ada, spec=SPEC, attempt=1)
    attempt_add(fourth, 1)
    load(fourth)
    assert size() < both + (full - empty) / 10
