"""The truth panel says what arrived, how late, what waits, what was promised, and why."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Desired, Process, Run, ShipReport, Stream, StreamHealth
from orchestrator.selectors.state_why import state_why
from orchestrator.selectors.truth import truth_read
from orchestrator.selectors.truth_verdict import fact_words, span
from orchestrator.selectors.truth_words import HELP
from orchestrator.services import stream_health
from orchestrator.services.beats import beat_note
from orchestrator.services.entries import PushError
from orchestrator.services.ingest import stream_done
from orchestrator.services.stream_health import counts_write
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import lines, metrics, push

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    """Forget what other tests counted."""
    stream_health._tallies.clear()
    stream_health._written.clear()
    yield


def trainer(run: Run, attempt: int | None = None) -> dict[str, Any]:
    counts_write(run_id=run.pk, attempt=attempt or run.attempt)
    return next(s for s in truth_read(run, attempt)["streams"] if s["source"] == "trainer")


def told(run: Run, count: int, **words: Any) -> None:
    journals = {"trainer": [count, 100 * count, 0], "samples": [0, 0, 0], "host": [0, 0, 0]}
    beat_note(run_id=run.pk, attempt=1, journals=journals, **words)


def test_without_an_attempt_there_are_no_streams(ada: Any) -> None:
    run = Run.objects.create(name="new", owner=ada, spec={})
    found = truth_read(run)
    assert (found["attempt"], found["attempts"], found["streams"]) == (None, [], [])
    assert found["state"]["shown"] == "queued" and found["heartbeat"]["due"] is None


def test_received_missing_and_duplicated_are_exact(run: Run) -> None:
    push(run, lines(1, 10))
    push(run, lines(6, 10))
    push(run, lines(14, 15))
    found = trainer(run)
    assert (found["stored"], found["known"], found["missing"]) == (10, 15, 5)
    assert (found["repeated_lines"], found["early_lines"]) == (5, 2)
    assert found["missing_are"] == "on their way"
    push(run, lines(11, 15))
    assert trainer(run)["missing_are"] == "none"


def test_the_spool_is_what_the_node_has_and_the_server_has_not(run: Run) -> None:
    push(run, lines(1, 10))
    assert trainer(run)["spool_lines"] is None, "an older ship says nothing of its spool"
    told(run, 25)
    found = trainer(run)
    assert (found["spool_lines"], found["missing"], found["journal_bytes"]) == (15, 15, 2500)
    push(run, lines(11, 30))  # the report is older than what arrived since
    found = trainer(run)
    assert (found["spool_lines"], found["missing"]) == (0, 0)


def test_lines_of_a_silent_ship_are_not_on_their_way(run: Run) -> None:
    push(run, lines(1, 10))
    told(run, 25)
    ago = timezone.now() - timedelta(minutes=1)
    Stream.objects.update(received=ago)
    ShipReport.objects.update(received=ago)
    assert trainer(run)["missing_are"] == "not delivered"
    said = truth_read(run)["verdict"]
    assert said["level"] == "warning" and said["words"].startswith("Ship has been silent for 60 s.")
    assert "10 lines are stored, each once. 15 lines are known to be missing" in said["words"]


def test_a_silent_ship_may_hide_lines_that_nobody_knows_of(run: Run) -> None:
    """The trainer goes on while ship hangs: that nothing is missing must not be claimed then."""
    push(run, lines(1, 10))
    told(run, 10)
    assert trainer(run)["missing_are"] == "none"
    assert truth_read(run)["verdict"]["words"].startswith("Nothing is missing: 10 lines are stored")
    ago = timezone.now() - timedelta(minutes=5)
    Stream.objects.update(received=ago)
    ShipReport.objects.update(received=ago)
    found = trainer(run)
    assert (found["missing"], found["missing_are"], found["counted"]) == (0, "none known", ago)
    said = truth_read(run)["verdict"]
    assert said["level"] == "warning"
    assert "silent for 5 min" in said["words"] and "waits in the journals" in said["words"]
    Run.objects.update(complete=True)
    run.refresh_from_db()
    said = truth_read(run)["verdict"]
    assert said["level"] == "good" and said["words"].startswith("Everything has arrived: 10 lines")
    assert trainer(run)["missing_are"] == "none", "a ship that has delivered all may go"


def test_the_verdict_tells_what_is_on_its_way_and_what_was_refused(run: Run) -> None:
    assert truth_read(run)["verdict"]["level"] == "none"
    push(run, lines(1, 1))
    told(run, 3)
    said = truth_read(run)["verdict"]
    assert said["level"] == "live"
    assert said["words"].startswith("1 line is stored, each once; 2 lines are on the way.")
    with pytest.raises(PushError):
        push(run, [{"seq": 2, "time": 0, "type": "dance"}])
    counts_write(run_id=run.pk, attempt=1)
    said = truth_read(run)["verdict"]
    assert said["level"] == "warning" and "1 push was refused" in said["words"]


def test_an_older_attempt_may_have_no_ship_any_more(run: Run) -> None:
    push(run, lines(1, 4))
    told(run, 4)
    ShipReport.objects.update(received=timezone.now() - timedelta(hours=1))
    Stream.objects.update(received=timezone.now() - timedelta(hours=1))
    attempt_add(run, 2)
    run.refresh_from_db()
    assert truth_read(run, 1)["verdict"]["level"] == "good"
    told(run, 9)
    ShipReport.objects.update(received=timezone.now() - timedelta(hours=1))
    said = truth_read(run, 1)["verdict"]
    assert said["level"] == "warning" and "5 lines are known to be missing" in said["words"]


def test_a_broken_promise_is_not_laid_at_the_trainers_door_while_ship_is_silent(run: Run) -> None:
    push(run, [{**metrics(1), "time": time.time(), "expect_next_in": 20}])
    told(run, 1)
    run.refresh_from_db()
    assert truth_read(run)["heartbeat"]["promise"] == "The trainer keeps its promise."
    Stream.objects.update(received=timezone.now() - timedelta(seconds=50))
    assert "broke its promise" in truth_read(run)["heartbeat"]["promise"]
    ShipReport.objects.update(received=timezone.now() - timedelta(seconds=50))
    assert truth_read(run)["heartbeat"]["promise"].startswith("The trainer may have spoken")


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        ({"last_contact": 3}, "contact", "heard 3 s ago; 45 s are allowed"),
        ({"last_contact": 60}, "contact", "silent for 60 s; 45 s are allowed"),
        ({"process": Process.EXITED}, "contact", "there is no process that would have to speak"),
        ({"desired": Desired.STOP, "desired_by": "ada"}, "desired", "it is to stop, says ada"),
        ({}, "desired", "it is to run"),
        ({}, "process", "its trainer is at work"),
        ({"phase": "train"}, "phase", "as the trainer said last"),
        ({}, "data", "more comes while the attempt is at work"),
        ({"process": Process.EXITED}, "data", "ship has not said that all is delivered"),
        ({"complete": True}, "data", "as many lines are stored as ship counted"),
    ],
    ids=str,
)
def test_each_fact_says_what_it_means(
    run: Run, facts: dict[str, Any], name: str, words: str
) -> None:
    now = timezone.now()
    for fact, value in facts.items():
        silent = fact == "last_contact"
        setattr(run, fact, now - timedelta(seconds=value) if silent else value)
    assert fact_words(run, now)[name] == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "2 h"), (200_000, "2 d")],
)
def test_a_span_is_told_in_one_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


def lag_of(run: Run, *lags: float) -> dict[str, Any]:
    push(run, lines(1, 1))
    counts_write(run_id=run.pk, attempt=1)
    StreamHealth.objects.update(lags=list(lags))
    return trainer(run)


def test_lags_are_percentiles_over_pushes(run: Run) -> None:
    found = lag_of(run, *(place / 100 for place in range(1, 101)))
    assert found["lag_p50_s"] == pytest.approx(0.505, abs=0.001)
    assert found["lag_p95_s"] == pytest.approx(0.9505, abs=0.001)
    assert found["lag_pushes"] == 100


@pytest.mark.parametrize("ahead", [5.0, -5.0])
def test_lags_are_corrected_by_the_measured_clock(run: Run, ahead: float) -> None:
    """A node whose clock is ahead stamps its lines too late: the lag seems shorter than it is."""
    told(run, 1, clock=[ahead, 0.01])
    found = lag_of(run, 0.2 - ahead, 0.2 - ahead)
    assert found["lag_p50_s"] == pytest.approx(0.2)
    side = "ahead" if ahead > 0 else "behind"
    assert f"is {side} by 5.0 s" in truth_read(run)["clock"]["words"]


def test_what_may_be_no_difference_corrects_no_lag(run: Run) -> None:
    told(run, 1, clock=[-1.4, 1.4])
    found = lag_of(run, 0.2, 0.2)
    assert found["lag_p50_s"] == pytest.approx(0.2)
    assert truth_read(run)["clock"]["correction_s"] == 0


def test_a_clock_that_was_not_measured_is_judged_by_the_fastest_push(run: Run) -> None:
    found = lag_of(run, -2.0, -1.0)
    assert (found["lag_p50_s"], found["lag_p95_s"]) == (0.5, 0.95)
    words = truth_read(run)["clock"]["words"]
    assert "ahead by 2.0 s or more" in words


def test_clocks_that_agree_are_said_to_agree(run: Run) -> None:
    told(run, 1, clock=[0.002, 0.004])
    assert truth_read(run)["clock"]["words"] == "The clocks of node and server agree within 4 ms."


def test_a_broken_promise_is_overdue(run: Run) -> None:
    push(run, [{**metrics(1), "time": time.time(), "expect_next_in": 20}])
    run.refresh_from_db()
    beat = truth_read(run)["heartbeat"]
    assert (beat["promised_s"], beat["overdue_s"]) == (20, 0)
    Stream.objects.update(received=timezone.now() - timedelta(seconds=50))
    beat = truth_read(run)["heartbeat"]
    assert beat["overdue_s"] == pytest.approx(30, abs=2)
    assert beat["due"] == beat["trainer_spoke"] + timedelta(seconds=20)


def test_an_ended_attempt_owes_no_word(run: Run) -> None:
    push(run, lines(1, 1))
    Run.objects.update(process=Process.EXITED, cause="finished")
    run.refresh_from_db()
    assert truth_read(run)["heartbeat"]["due"] is None


def test_data_is_complete_when_ship_counted_it(run: Run) -> None:
    push(run, lines(1, 3))
    assert truth_read(run)["state"]["data"] == "open"
    stream_done(run_id=run.pk, attempt=1, counts={"trainer": 3, "samples": 0, "host": 0})
    run.refresh_from_db()
    assert truth_read(run)["state"]["data"] == "complete"


def test_an_older_attempt_can_be_asked_for(run: Run) -> None:
    push(run, lines(1, 4))
    attempt_add(run, 2)
    run.refresh_from_db()
    push(run, lines(1, 2), attempt=2)
    assert (trainer(run, 1)["stored"], trainer(run)["stored"]) == (4, 2)
    assert truth_read(run, 1)["heartbeat"]["due"] is None, "a promise is the newest attempt's"
    with pytest.raises(ValueError, match="no attempt 9"):
        truth_read(run, 9)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Running: its trainer is at work, it is to run, and nothing of this attempt"),
        ({"last_contact": 3}, "it was last heard 3 s ago, within the 45 s"),
        ({"last_contact": 60}, "Lost: its trainer is at work, it is to run, and nothing of it was heard"),
        ({"desired": Desired.PAUSE}, "Pausing: its trainer is at work, it is to pause"),
        ({"process": Process.NONE}, "Queued: no attempt is under way, and it is to run."),
        ({"process": Process.EXITED, "cause": "oom"}, "Failed: its last attempt has ended with the cause “oom”."),
        ({"process": Process.DISPATCHED}, "Queued: an order is on its way"),
    ],
    ids=str,
)  # fmt: skip
def test_the_sentence_gives_the_facts_of_the_state(
    run: Run, facts: dict[str, Any], words: str
) -> None:
    now = timezone.now()
    for name, value in facts.items():
        silent = name == "last_contact"
        setattr(run, name, now - timedelta(seconds=value) if silent else value)
    assert words in state_why(run, now)


def test_every_figure_says_how_it_is_measured(run: Run) -> None:
    push(run, lines(1, 1))
    found = truth_read(run)
    figures = {*found["state"], *found["streams"][0]} - {"source", "name"}
    figures |= set(found["heartbeat"])
    for part in ("clock", "verdict"):
        figures |= {f"{part}_{name}" for name in found[part]}
    assert figures == set(HELP)
