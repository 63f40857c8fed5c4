"""What ship says in its beats is kept: the length of its journals, and the difference of the clocks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Event, ShipReport
from orchestrator.services.beats import beat_note
from orchestrator.services.entries import PushError

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


def test_a_beat_keeps_what_ship_reports(run: Run) -> None:
    journals = {"trainer": [7, 900, 0], "samples": [0, 0, 0], "host": [1, 80, 0]}
    beat_note(run_id=run.pk, attempt=1, journals=journals, clock=[3.5, 0.01])
    beat_note(run_id=run.pk, attempt=1, journals={**journals, "trainer": [9, 1000, 0]})
    report = ShipReport.objects.get()
    assert report.journals["trainer"] == [9, 1000, 0]
    assert (report.clock_offset, report.clock_within) == (3.5, 0.01)


def test_an_older_ship_reports_nothing(run: Run) -> None:
    beat_note(run_id=run.pk, attempt=1)
    assert not ShipReport.objects.exists()


@pytest.mark.parametrize(
    "words",
    [
        {"journals": 3},
        {"journals": {"diary": [1, 1, 0]}},
        {"journals": {"trainer": [1, 1]}},
        {"journals": {"trainer": [1, -1, 0]}},
        {"journals": {"trainer": [True, 1, 0]}},
        {"journals": {"trainer": [2**80, 1, 0]}},
        {"clock": 3},
        {"clock": ["x", 1]},
        {"clock": [1]},
        {"clock": ["NaN", 0]},
        {"clock": [1e30, 0]},
        {"clock": [0, -1]},
        {"clock": [0, "Infinity"]},
    ],
    ids=str,
)
def test_a_faulty_beat_is_refused(run: Run, words: dict[str, Any]) -> None:
    with pytest.raises(PushError):
        beat_note(run_id=run.pk, attempt=1, **words)
    assert not ShipReport.objects.exists()


def clock(run: Run, offset: float, within: float) -> tuple[float | None, float | None]:
    """Report a difference of the clocks; what is known then."""
    beat_note(run_id=run.pk, attempt=1, clock=[offset, within])
    report = ShipReport.objects.get()
    return report.clock_offset, report.clock_within


def test_a_new_ship_that_knows_less_of_the_clocks_does_not_unsettle_what_is_known(run: Run) -> None:
    """Its first exchange may have waited for a server that was busy: 1.4 s, give or take as much."""
    assert clock(run, 0.002, 0.003) == (0.002, 0.003)
    offset, within = clock(run, -1.4, 1.4)
    assert offset == 0.002 and within == pytest.approx(0.003, abs=0.001)
    assert clock(run, 0.001, 0.002) == (0.001, 0.002), "a better one counts at once"


def test_what_is_known_of_the_clocks_fades(run: Run) -> None:
    clock(run, 0.002, 0.003)
    ShipReport.objects.update(received=timezone.now() - timedelta(hours=1))
    assert clock(run, 0.05, 0.1) == (0.05, 0.1), "in an hour they may have drifted by 0.36 s"


def test_a_clock_that_was_set_is_believed(run: Run) -> None:
    clock(run, 0.002, 0.003)
    assert clock(run, 30.0, 1.4) == (30.0, 1.4)


@pytest.mark.parametrize(
    ("offset", "words"), [(7300.0, "2 h ahead of"), (-90_000.0, "25 h behind")]
)
def test_a_clock_far_off_is_told_once(run: Run, offset: float, words: str) -> None:
    for _ in range(3):
        clock(run, offset, 0.01)
    alert = Event.objects.get(run=run, type="alert")
    assert (alert.source, alert.attempt, alert.data["code"]) == ("server", 1, "clock-far-off")
    assert f"node is {words} the server's" in alert.data["message"]
    assert abs((alert.time - timezone.now()).total_seconds()) < 60, "by the server's own clock"


@pytest.mark.parametrize(("offset", "within"), [(59.0, 0.1), (100.0, 50.0), (0.0, 500.0)])
def test_a_clock_that_may_be_right_is_not_told_of(run: Run, offset: float, within: float) -> None:
    clock(run, offset, within)
    assert not Event.objects.filter(type="alert").exists()
