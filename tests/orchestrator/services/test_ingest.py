"""Every line arrives exactly once, whatever the connection does."""

from __future__ import annotations

import json
import math
import random
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from orchestrator.models import Chunk, LogLine, Sample, Series, Stream
from orchestrator.services import ingest, points
from orchestrator.services.ingest import PushError
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import (
    T0,
    lines,
    metrics,
    push,
    sample,
    stored_steps,
    stored_values,
)

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


def test_it_stores_lines_in_order(run: Run) -> None:
    assert push(run, lines(1, 3)).cursor == 3
    assert push(run, lines(4, 5)).cursor == 5
    assert stored_steps(run) == [1, 2, 3, 4, 5]


def test_it_ignores_a_push_it_has_already_stored(run: Run) -> None:
    push(run, lines(1, 5))
    ack = push(run, lines(1, 5))
    assert (ack.cursor, ack.applied) == (5, False)
    assert stored_steps(run) == [1, 2, 3, 4, 5]


def test_it_refuses_a_gap_and_answers_its_cursor(run: Run) -> None:
    push(run, lines(1, 2))
    ack = push(run, lines(4, 5))
    assert (ack.cursor, ack.applied) == (2, False)
    assert stored_steps(run) == [1, 2]


def test_it_ignores_a_push_that_overlaps(run: Run) -> None:
    push(run, lines(1, 3))
    assert push(run, lines(2, 6)).cursor == 3
    assert stored_steps(run) == [1, 2, 3]


def test_pushes_sent_ahead_of_their_ack_arrive_once(run: Run) -> None:
    """A client that pipelines: one push is lost, those behind it come too early, then all come again."""
    push(run, lines(1, 2))
    for first in (5, 7):  # 3-4 was lost on the way
        assert push(run, lines(first, first + 1)).cursor == 2
    for first in (3, 5, 7):
        push(run, lines(first, first + 1))
    assert stored_steps(run) == list(range(1, 9))


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_loss_and_repetition_ends_equal(run: Run, seed: int) -> None:
    """A client that pipelines blindly and loses, doubles and reorders frames until all is acked."""
    chance, total, cursor = random.Random(seed), 40, 0
    while cursor < total:
        frames = []
        first = cursor + 1
        while first <= total and len(frames) < 5:
            last = min(total, first + chance.randint(0, 6))
            frames += [(first, last)] * chance.choice([0, 1, 1, 2])
            first = last + 1
        if chance.random() < 0.4:
            chance.shuffle(frames)
        for begin, end in frames:
            cursor = push(run, lines(begin, end)).cursor
    assert stored_steps(run) == list(range(1, total + 1))


def test_each_source_and_attempt_has_its_own_cursor(run: Run) -> None:
    push(run, lines(1, 2))
    push(run, [sample(1)], source="samples")
    attempt_add(run, 2)
    push(run, lines(1, 1), attempt=2)
    cursors = Stream.objects.order_by("attempt", "source").values_list("source", "cursor")
    assert list(cursors) == [("samples", 1), ("trainer", 2), ("trainer", 1)]


def test_nan_and_infinities_survive(run: Run) -> None:
    push(run, [metrics(1, a="NaN", b="Infinity", c="-Infinity", d=0)])
    found = {key: value for key, (_, value) in stored_values(run).items()}
    assert math.isnan(found["a"])
    assert (found["b"], found["c"], found["d"]) == (math.inf, -math.inf, 0)
    run.refresh_from_db()
    assert run.latest == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 0}


def test_values_are_exact(run: Run) -> None:
    values = {"a": 0.1 + 0.2, "b": 5e-324, "c": -1.7976931348623157e308, "d": 2**53 + 1}
    push(run, [metrics(1, 2**62, **values)])
    assert stored_values(run) == {key: (2**62, float(value)) for key, value in values.items()}


def test_the_run_shows_the_newest_values(run: Run) -> None:
    push(run, [metrics(1, 10, loss=3, reward=1), metrics(2, 11, loss=2)])
    run.refresh_from_db()
    assert (run.step, run.latest) == (11, {"loss": 2, "reward": 1})


def test_every_push_and_beat_is_a_sign_of_life(run: Run) -> None:
    run.state = "lost"
    run.last_contact = timezone.now() - timedelta(hours=1)
    run.save()
    push(run, [sample(1)], source="samples")
    run.refresh_from_db()
    first = run.last_contact
    assert first is not None and timezone.now() - first < timedelta(seconds=10)
    assert run.state == "running"
    assert ingest.beat(run_id=run.pk, attempt=1)["want"] == "run"
    run.refresh_from_db()
    assert run.last_contact is not None and run.last_contact > first


def test_a_later_status_has_the_last_word_on_the_step(run: Run) -> None:
    status = {"seq": 2, "time": T0, "type": "status", "state": "running", "step": 9}
    push(run, [metrics(1, 8), status])
    run.refresh_from_db()
    assert run.step == 9
    push(run, [{**status, "seq": 3, "step": 10}, metrics(4, 11)])
    run.refresh_from_db()
    assert run.step == 11


FAULTY_FACTS = {
    "status without state": {"type": "status"},
    "state": {"type": "status", "state": 3},
    "step": {"type": "heartbeat", "step": -1},
    "step-huge": {"type": "heartbeat", "step": 2**63},
    "promise": {"type": "heartbeat", "expect_next_in": "Infinity"},
    "checkpoint": {"type": "checkpoint", "path": "x", "sha256": "0"},
    "bytes": {"type": "checkpoint", "step": 1, "bytes": 2**70},
}


@pytest.mark.parametrize("fault", FAULTY_FACTS)
def test_a_faulty_fact_is_refused(run: Run, fault: str) -> None:
    with pytest.raises(PushError):
        push(run, [metrics(1), {"seq": 2, "time": T0, **FAULTY_FACTS[fault]}])
    assert not Chunk.objects.exists()


def test_warm_up_does_not_move_the_step(run: Run) -> None:
    push(run, [metrics(1, 300, **{"warmup/loss": 1.0})])
    run.refresh_from_db()
    assert (run.step, run.latest) == (0, {"warmup/loss": 1.0})


def test_late_lines_of_an_old_attempt_are_stored_and_told_to_stop(run: Run) -> None:
    push(run, lines(1, 2))
    attempt_add(run, 2)
    push(run, [metrics(1, 1, loss=9)], attempt=2)
    ack = push(run, lines(3, 4))
    assert (ack.cursor, ack.want["want"], ack.want["cause"]) == (4, "stop", "fenced")
    run.refresh_from_db()
    assert (run.step, run.latest) == (1, {"loss": 9})
    assert stored_steps(run) == [1, 2, 3, 4, 1]


def test_an_ack_carries_what_people_want(run: Run) -> None:
    run.desired, run.reason, run.knobs = "stop", "stopped by ada", {"optimizer.lr": 1e-5}
    run.asks = {"save": 2}
    run.save()
    want = {"want": "stop", "cause": "user", "message": "stopped by ada"}
    assert push(run, lines(1, 1)).want == {
        **want,
        "knobs": {"optimizer.lr": 1e-5},
        "asks": {"save": 2},
        "on_stall": "tell",
    }


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "seq": ({"seq": 3}, "consecutive"),
    "time": ({"time": "soon"}, "not a number"),
    "time-nan": ({"time": "NaN"}, "Unix time"),
    "type": ({"type": "gossip"}, "not a type"),
    "type-object": ({"type": {}}, "not a type"),
    "step": ({"step": -1}, "whole number"),
    "step-float": ({"step": 1.5}, "whole number"),
    "step-bool": ({"step": True}, "whole number"),
    "step-huge": ({"step": 2**63}, "whole number"),
    "value-text": ({"values": {"loss": "low"}}, "not a number"),
    "value-bool": ({"values": {"loss": True}}, "not a number"),
    "value-null": ({"values": {"loss": None}}, "not a number"),
    "value-huge": ({"values": {"loss": 10**400}}, "too large"),
    "name-empty": ({"values": {"": 1}}, "metric name"),
    "name-long": ({"values": {"x" * 201: 1}}, "metric name"),
    "name-nul": ({"values": {"a\x00b": 1}}, "metric name"),
    "name-newline": ({"values": {"a\nb": 1}}, "metric name"),
    "name-surrogate": ({"values": {"\ud800": 1}}, "metric name"),
    "many": ({"values": {str(n): 1 for n in range(2001)}}, "2000 is the most"),
    "values": ({"values": [1]}, "object of numbers"),
    "promise": ({"expect_next_in": -1}, "expect_next_in"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_line_stores_nothing_of_its_push(run: Run, fault: str) -> None:
    change, sentence = FAULTS[fault]
    with pytest.raises(PushError, match=sentence):
        push(run, [metrics(1), {**metrics(2), **change}])
    assert not Chunk.objects.exists()
    assert not Series.objects.exists()
    assert push(run, lines(1, 2)).cursor == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"source": "diary"}, "not a source"),
        ({"source": "host"}, "trainer's journal"),
        ({"first": 0}, "seq of the first"),
        ({"first": "1"}, "seq of the first"),
        ({"first": None}, "seq of the first"),
        ({"attempt": 7}, "no attempt 7"),
    ],
)
def test_a_faulty_push_is_refused(run: Run, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PushError, match=sentence):
        push(run, lines(1, 1), **words)


def test_events_must_be_a_list_of_objects(run: Run) -> None:
    for events in (None, {}, "x", [1], [None], [[]]):
        with pytest.raises(PushError):
            ingest.push_ingest(
                run_id=run.pk,
                attempt=1,
                source="trainer",
                first=1,
                events=events,  # type: ignore[arg-type]
            )


def test_an_empty_push_answers_the_cursor(run: Run) -> None:
    ack = ingest.push_ingest(run_id=run.pk, attempt=1, source="trainer", first=1, events=[])
    assert (ack.cursor, ack.applied) == (0, False)


def test_samples_are_stored_with_unstorable_characters_made_visible(run: Run) -> None:
    odd = sample(
        1,
        prompt=[{"role": "user", "content": "a\x00b"}],
        completion="x\x00y\ud800z \u202e<b>",
        prompt_id="p" * 100,
        reward="NaN",
        rewards={"a\x00": float("inf")},
        logps=[-0.5, "-Infinity"],
        finish_reason="a reason that is far too long",
    )
    push(run, [odd, sample(2, reward=None)], source="samples")
    first, second = Sample.objects.order_by("seq")
    assert first.completion == "x\ufffdy\ufffdz \u202e<b>"
    assert "a\ufffdb" in first.prompt
    assert len(first.prompt_id) == 64
    assert first.rewards == {"a\ufffd": "Infinity"}
    assert first.tokens == {"token_ids": [5, 6], "logps": [-0.5, "-Infinity"]}
    assert first.reward is not None and math.isnan(first.reward)
    assert second.reward is None


def test_log_lines_keep_their_order(run: Run) -> None:
    line = {"seq": 1, "time": T0, "type": "log", "lines": ["one", "t\x00wo"], "stream": "out"}
    push(run, [line])
    push(run, [{**line, "lines": ["from host"]}], source="host")
    assert list(LogLine.objects.order_by("pk").values_list("source", "text")) == [
        ("trainer", "one"),
        ("trainer", "t\ufffdwo"),
        ("host", "from host"),
    ]


def test_a_failure_after_the_rows_leaves_neither_rows_nor_cursor(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(ingest, "_hints_send", fail)
    with pytest.raises(RuntimeError), transaction.atomic():
        push(run, lines(1, 3))
    assert not Chunk.objects.exists()
    assert not Stream.objects.exists()
    monkeypatch.undo()
    assert push(run, lines(1, 3)).cursor == 3


@pytest.mark.django_db(transaction=True)
def test_ids_of_a_failed_push_are_not_remembered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(ingest, "_hints_send", fail)
    with pytest.raises(RuntimeError):
        push(run, lines(1, 3))
    monkeypatch.undo()
    assert push(run, lines(1, 3)).cursor == 3
    assert stored_steps(run) == [1, 2, 3]
    assert points._ids_of_run[run.pk].keys() == {"loss"}


@pytest.mark.django_db(transaction=True)
def test_two_connections_that_race_store_each_line_once(run: Run) -> None:
    failures: list[BaseException] = []

    def client() -> None:
        try:
            cursor = 0
            while cursor < 60:
                cursor = push(run, lines(cursor + 1, min(60, cursor + 7))).cursor
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert stored_steps(run) == list(range(1, 61))


@pytest.mark.django_db(transaction=True)
def test_streams_of_one_run_do_not_lock_each_other_out(run: Run) -> None:
    failures: list[BaseException] = []

    def client(source: str) -> None:
        try:
            for seq in range(1, 40):
                event = metrics(seq) if source == "trainer" else sample(seq)
                push(run, [event], source=source)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=[s]) for s in ("trainer", "samples") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert (stored_steps(run), Sample.objects.count()) == ([*range(1, 40)], 39)


def test_a_frame_of_the_wire_is_what_is_stored(run: Run) -> None:
    """Through JSON as `ship` sends it."""
    events = json.loads(json.dumps([metrics(1, **{"rewards/exact match/mean": 0.5, "δ": 1})]))
    push(run, events)
    assert set(Series.objects.values_list("key", flat=True)) == {"rewards/exact match/mean", "δ"}


def test_what_the_database_refuses_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of binary statements come as Django's, like those of queries."""
    monkeypatch.setattr(points, "INSERT", points.INSERT.replace("%s", "1 / %s", 1))
    with pytest.raises(PushError, match="cannot hold"), transaction.atomic():
        push(run, lines(1, 1))
