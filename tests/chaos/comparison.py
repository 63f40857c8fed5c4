"""Compares what is stored and shown of a run with what was scripted: count, order and value, to the bit."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.chaos.script import bits
from tests.chaos.stored import stored
from trainer.events import number_decode
from trainer.journal import read_events

if TYPE_CHECKING:
    from tests.chaos.fleet import Fleet, Voyage
    from tests.chaos.stack import Stack
    from tests.chaos.stored import Place, Points

WINDOW = 1500  # steps of one question for curves
REDUCED = 120  # points of a question that cannot be answered in full
MICROSECOND = 1e-6
RECORDED = ("status", "alert", "checkpoint")
"""Types of lines that become events of the run."""

Curve = dict[int, float]


def assert_prefix(stack: Stack, voyage: Voyage) -> None:
    """At any moment: of each journal exactly what lies up to its cursor is stored."""
    now = stored(stack, voyage.run_id)
    lines = voyage.script.trainer()
    for attempt in lines:
        there, length = now.cursors.get((attempt, "trainer"), 0), len(lines[attempt])
        assert there <= length, f"{there} of {length} lines of {voyage.run_id} arrived"
    expected = {
        place: point
        for place, point in voyage.script.points_journalled().items()
        if place[1] <= now.cursors.get((place[0], "trainer"), 0)
    }
    assert_equal(voyage.run_id, now.points, expected)


def assert_equal(run_id: str, found: Points, expected: Points) -> None:
    """Every point at its place, and none besides."""
    lost, foreign = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not lost, f"{len(lost)} points of {run_id} are lost, such as {min(lost)}"
    assert not foreign, f"{len(foreign)} points of {run_id} were never logged: {min(foreign)}"
    for place, (step, value) in expected.items():
        there = found[place]
        same = there[0] == step and bits(there[1]) == bits(value)
        assert same, f"{run_id} {place} is {there}, logged as {(step, value)}"


def assert_everything_arrived(fleet: Fleet) -> int:
    """Every scripted line of every run is there exactly once; how many points that are."""
    count = 0
    for voyage in fleet.voyages:
        assert_prefix(fleet.stack, voyage)
        now = stored(fleet.stack, voyage.run_id)
        _assert_cursors(voyage, now.cursors)
        expected = voyage.script.points_journalled()
        assert_equal(voyage.run_id, now.points, expected)
        _assert_times(voyage, now.times)
        _assert_samples(fleet.stack, voyage)
        _assert_log(fleet.stack, voyage)
        _assert_events(fleet.stack, voyage)
        assert_shown(fleet.stack, voyage)
        count += len(expected)
    for voyage in fleet.voyages:
        run = fleet.stack.run(voyage.run_id)
        assert (run["state"], run["attempt"]) == ("finished", voyage.script.attempts), run
    return count


def _assert_cursors(voyage: Voyage, cursors: dict[tuple[int, str], int]) -> None:
    for attempt, lines in voyage.script.trainer().items():
        host = sum(1 for _ in read_events(voyage.run.attempt(attempt).journal("host")))
        scripted = {
            "trainer": len(lines),
            "samples": len(voyage.samples_written(attempt)),
            "host": host,
        }
        for source, length in scripted.items():
            there = cursors.get((attempt, source), 0)
            where = f"{source} of attempt {attempt} of {voyage.run_id}"
            assert there == length, f"{there} of {length} lines of the {where} arrived"


def _assert_times(voyage: Voyage, times: dict[Place, float]) -> None:
    """The moments come from the writer's clock: they are in its journals alone."""
    for attempt in voyage.script.trainer():
        moments = {
            event["seq"]: event["time"]
            for event in read_events(voyage.run.attempt(attempt).journal("trainer"))
        }
        for place, time in times.items():
            if place[0] == attempt:
                off = abs(time - moments[place[1]])
                assert off < MICROSECOND, f"the time of {place} of {voyage.run_id} is off by {off}"


def _assert_samples(stack: Stack, voyage: Voyage) -> None:
    rows = stack.query(
        "SELECT attempt, seq, step, completion, reward FROM orchestrator_sample"
        " WHERE run_id = %s ORDER BY attempt, seq",
        voyage.run_id,
    )
    expected = [
        (attempt, seq, line.fields["step"], line.fields["completion"], bits(line.fields["reward"]))
        for attempt in voyage.script.trainer()
        for seq, line in enumerate(voyage.samples_written(attempt), 1)
    ]
    assert [(*row[:4], bits(row[4])) for row in rows] == expected, f"samples of {voyage.run_id}"


def _assert_log(stack: Stack, voyage: Voyage) -> None:
    rows = stack.query(
        "SELECT attempt, seq, number, text FROM orchestrator_logline"
        " WHERE run_id = %s AND source = 'trainer' ORDER BY attempt, seq, number",
        voyage.run_id,
    )
    expected = [
        (attempt, seq, number, text)
        for attempt, lines in voyage.script.trainer().items()
        for seq, line in enumerate(lines, 1)
        if line.type == "log"
        for number, text in enumerate(line.fields["lines"])
    ]
    assert [tuple(row) for row in rows] == expected, f"log of {voyage.run_id}"


def _assert_events(stack: Stack, voyage: Voyage) -> None:
    """No table refuses an event that comes twice: only the cursor keeps it out."""
    rows = stack.query(
        "SELECT source, attempt, seq, type, data FROM orchestrator_event"
        " WHERE run_id = %s AND source IN ('trainer', 'host') ORDER BY source DESC, attempt, id",
        voyage.run_id,
    )
    expected: list[tuple[Any, ...]] = [
        ("trainer", attempt, seq, line.type, line.fields)
        for attempt, lines in voyage.script.trainer().items()
        for seq, line in enumerate(lines, 1)
        if line.type in RECORDED
    ]
    for attempt in voyage.script.trainer():
        for event in read_events(voyage.run.attempt(attempt).journal("host")):
            if event["type"] in RECORDED:
                data = {name: event[name] for name in event.keys() - {"seq", "time", "type"}}
                expected.append(("host", attempt, event["seq"], event["type"], data))
    assert [tuple(row) for row in rows] == expected, f"events of {voyage.run_id}"


def assert_shown(stack: Stack, voyage: Voyage) -> None:
    """What `/series` answers: window by window in full, the whole run reduced, and each attempt."""
    curves, run_id = voyage.script.curves(), voyage.run_id

    def ask(**words: int) -> dict[str, dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in words.items())
        keys = quote(",".join(curves))
        found: dict[str, dict[str, Any]] = stack.call(
            "GET", f"/runs/{run_id}/series?keys={keys}&{query}"
        )
        assert found.keys() == curves.keys(), run_id
        return found

    for start in range(0, max(map(max, curves.values())) + 1, WINDOW):
        end = start + WINDOW - 1
        shown = ask(points=2000, to=end, **{"from": start})
        for key, curve in curves.items():
            part = {step: curve[step] for step in curve if start <= step <= end}
            assert_full(f"{key} of {run_id} from step {start}", shown[key], part)
    shown = ask(points=REDUCED)
    for key, curve in curves.items():
        if len(curve) > REDUCED:
            assert_reduced(f"{key} of {run_id}", shown[key], curve, REDUCED)
        else:
            assert_full(f"{key} of {run_id}", shown[key], curve)
    for attempt in voyage.script.trainer():
        shown = ask(points=100_000, attempt=attempt)
        for key, curve in voyage.script.curves(attempt).items():
            assert_full(f"{key} of {run_id} in attempt {attempt}", shown[key], curve)


def assert_full(where: str, shown: dict[str, Any], curve: Curve) -> None:
    """Every step once and in order, every value as it was logged."""
    assert not shown["reduced"], f"{where} is reduced"
    assert shown["x"] == list(curve), f"steps of {where}"
    _assert_values(where, shown, curve)
    _assert_counts(where, shown, curve)


def assert_reduced(where: str, shown: dict[str, Any], curve: Curve, most: int) -> None:
    """Fewer points, and none of the rest is hidden: each lies within the bounds of its bucket."""
    xs = shown["x"]
    assert shown["reduced"] and len(xs) <= most, f"{where} shows {len(xs)} points of {most} at most"
    assert all(left < right for left, right in pairwise(xs)), f"order of {where}"
    assert (xs[0], xs[-1]) == (min(curve), max(curve)), f"ends of {where}"
    _assert_values(where, shown, curve)
    _assert_counts(where, shown, curve)
    _assert_bounded(where, shown, curve)
    logged = [value for value in curve.values() if not math.isnan(value)]
    drawn = [value for value in map(number_decode, shown["y"]) if not math.isnan(value)]
    assert (min(drawn), max(drawn)) == (min(logged), max(logged)), f"extremes of {where}"


def _assert_bounded(where: str, shown: dict[str, Any], curve: Curve) -> None:
    """Every value lies within the bounds of a bucket that reaches over its step.

    Buckets of two attempts may interleave: a resumed one need not log every name that it supersedes.
    """
    xs = shown["x"]
    bounds = [
        (number_decode(low), number_decode(high))
        for low, high in zip(shown["min"], shown["max"], strict=True)
    ]
    spans: dict[tuple[float, float], list[int]] = {}
    for x, pair in zip(xs, bounds, strict=True):
        spans.setdefault(pair, []).append(x)
    for step, value in curve.items():
        if math.isnan(value):
            continue
        right = bisect_left(xs, step)
        around = {*bounds[max(0, right - 1) : right + 1]}
        around |= {pair for pair, reach in spans.items() if reach[0] <= step <= reach[-1]}
        kept = any(low <= value <= high for low, high in around)
        assert kept, f"{where} hides {value} at step {step}"


def _assert_values(where: str, shown: dict[str, Any], curve: Curve) -> None:
    values = [number_decode(y) for y in shown["y"]]
    found = list(zip(shown["x"], values, strict=True))
    foreign = [x for x, _ in found if x not in curve]
    assert not foreign, f"{where} shows {foreign[:3]}"
    wrong = [(x, y, curve[x]) for x, y in found if bits(y) != bits(curve[x])]
    assert not wrong, f"{where} shows {wrong[:3]}"


def _assert_counts(where: str, shown: dict[str, Any], curve: Curve) -> None:
    missing = [step for step, value in curve.items() if math.isnan(value)]
    counts = (shown["total"], shown["nan"])
    assert counts == (len(curve), len(missing)), f"{where} counts {counts}"
    placed = set(shown["nan_x"])
    assert placed <= set(missing), f"{where} places a NaN at {placed - set(missing)}"
    # A reduced curve places the first and the last NaN of each bucket.
    ends = {missing[0], missing[-1]} if missing else set()
    assert ends <= placed, f"{where} places no NaN at {ends - placed}"
    assert shown["reduced"] or placed == set(missing), f"{where} places {len(placed)} NaN"
