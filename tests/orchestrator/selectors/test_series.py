"""A chart hides nothing: no spike, no NaN, no gap, and the same picture at every refresh."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.selectors.series import cursor_of, points_after, series_keys, series_read
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import T0, lines, metrics, push

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


def read(run: Run, key: str = "loss", **words: Any) -> dict[str, Any]:
    return series_read(run=run, keys=[key], **words)[key]


def test_a_short_curve_comes_whole(run: Run) -> None:
    push(run, lines(1, 3))
    assert read(run) == {
        "x": [1, 2, 3],
        "y": [1, 2, 3],
        "min": [1, 2, 3],
        "max": [1, 2, 3],
        "total": 3,
        "nan": 0,
        "nan_x": [],
        "reduced": False,
    }


def test_an_unknown_key_is_empty(run: Run) -> None:
    assert read(run, "nothing") == {
        **{name: [] for name in ("x", "y", "min", "max", "nan_x")},
        "total": 0,
        "nan": 0,
        "reduced": False,
    }


def test_many_keys_come_from_one_read(run: Run) -> None:
    push(run, [metrics(n, a=n, b=-n) for n in range(1, 4)])
    found = series_read(run=run, keys=["b", "a", "zzz"])
    assert {key: curve["y"] for key, curve in found.items()} == {
        "b": [-1, -2, -3],
        "a": [1, 2, 3],
        "zzz": [],
    }
    assert series_keys(run) == ["a", "b"]


def test_thinning_keeps_every_spike_where_it_was(run: Run) -> None:
    values: dict[int, Any] = {n: math.sin(n / 50) for n in range(1, 3001)}
    values |= {777: 1e6, 1234: -1e6, 2000: "NaN", 2500: "Infinity", 2600: "-Infinity"}
    push(run, [metrics(n, loss=value) for n, value in values.items()])
    curve = read(run, points=200)
    at = dict(zip(curve["x"], curve["y"], strict=True))
    assert (at[777], at[1234], at[2000]) == (1e6, -1e6, "NaN")
    assert (at[2500], at[2600]) == ("Infinity", "-Infinity")
    assert (curve["x"][0], curve["x"][-1]) == (1, 3000)
    assert len(curve["x"]) <= 200
    assert (curve["total"], curve["nan"], curve["nan_x"]) == (3000, 1, [2000])
    assert curve["reduced"] is True
    assert all(values[x] == y for x, y in at.items())


def test_each_point_carries_its_buckets_extremes(run: Run) -> None:
    push(run, [metrics(n, loss=n % 100) for n in range(1, 2001)])
    curve = read(run, points=50)
    assert all(
        low <= y <= high
        for low, y, high in zip(curve["min"], curve["y"], curve["max"], strict=True)
    )
    assert (min(curve["min"]), max(curve["max"])) == (0, 99)


def test_the_picture_is_the_same_at_every_refresh(run: Run) -> None:
    push(run, [metrics(n, loss=(n * 7919) % 1000) for n in range(1, 2001)])
    assert read(run, points=100) == read(run, points=100)


def test_a_resumed_attempt_supersedes_the_steps_it_logs_again(run: Run) -> None:
    push(run, [metrics(n, n, loss=1) for n in range(1, 7)])
    attempt_add(run, 2)
    push(run, [metrics(1, 5, loss=2), metrics(2, 6, loss=2), metrics(3, 7, loss=2)], attempt=2)
    curve = read(run)
    assert (curve["x"], curve["y"]) == ([1, 2, 3, 4, 5, 6, 7], [1, 1, 1, 1, 2, 2, 2])
    assert curve["total"] == 7
    assert read(run, attempt=1)["y"] == [1] * 6
    assert read(run, attempt=2)["x"] == [5, 6, 7]


def test_late_lines_of_an_old_attempt_do_not_win(run: Run) -> None:
    attempt_add(run, 2)
    push(run, [metrics(1, 5, loss=2)], attempt=2)
    push(run, [metrics(1, 5, loss=1)], attempt=1)
    assert read(run)["y"] == [2]


def test_the_last_line_of_a_step_wins_within_an_attempt(run: Run) -> None:
    push(run, [metrics(1, 5, loss=1), metrics(2, 5, loss=2)])
    assert (read(run)["y"], read(run)["total"]) == ([2], 1)


def test_it_cuts_out_a_range_of_the_axis(run: Run) -> None:
    push(run, lines(1, 20))
    assert read(run, start=5, end=7)["x"] == [5, 6, 7]
    assert read(run, x="time", start=T0 + 18.5)["x"] == [T0 + 19, T0 + 20]


def test_a_superseded_point_does_not_come_back_when_time_is_cut(run: Run) -> None:
    push(run, lines(1, 4))
    attempt_add(run, 2)
    later = {**metrics(1, 4, loss=9), "time": T0 + 100}
    push(run, [later], attempt=2)
    assert read(run, x="time", end=T0 + 50)["y"] == [1, 2, 3]


def test_tokens_place_every_step(run: Run) -> None:
    push(run, [metrics(1, 0, **{"eval/loss": 3.0}), metrics(2, 1, loss=2, num_tokens=100)])
    push(run, [metrics(3, 2, loss=1, num_tokens=250), metrics(4, 2, **{"eval/loss": 1.0})])
    assert read(run, x="tokens")["x"] == [100, 250]
    assert read(run, "eval/loss", x="tokens")["x"] == [0, 250]


def test_a_span_of_tokens_is_cut_out(run: Run) -> None:
    push(run, [metrics(n, loss=n, num_tokens=100 * (n // 2)) for n in range(1, 9)])
    assert read(run, x="tokens", start=100, end=200)["y"] == [2, 3, 4, 5]
    assert read(run, x="tokens", start=150, end=199)["y"] == []
    assert read(run, x="tokens", start=300)["y"] == [6, 7, 8]
    assert read(run, x="tokens", end=0)["y"] == [1]


def test_a_span_of_tokens_is_cut_out_of_a_count_that_falls(run: Run) -> None:
    counts = [100, 200, 50, 150, 300]
    push(run, [metrics(n, n, loss=n, num_tokens=c) for n, c in enumerate(counts, 1)])
    curve = read(run, x="tokens", start=100, end=200)
    assert (curve["x"], curve["y"], curve["total"]) == ([100, 150, 200], [1, 4, 2], 3)


def test_an_unknown_axis_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="x is 'mood'"):
        read(run, x="mood")


def test_deltas_join_the_snapshot_without_overlap(run: Run) -> None:
    push(run, lines(1, 4))
    cursor = cursor_of(run)
    push(run, [metrics(5, loss="NaN"), metrics(6, reward=1)])
    snapshot = read(run, upto=cursor)
    points, upto = points_after(run=run, keys=["loss", "reward", "other"], after=cursor)
    assert snapshot["x"] == [1, 2, 3, 4]
    assert points == {"loss": [[5, "NaN", T0 + 5]], "reward": [[6, 1, T0 + 6]]}
    assert upto == {"attempt": 1, "seq": 6}
    assert points_after(run=run, keys=["loss"], after=upto) == ({}, upto)


def test_deltas_cross_into_the_next_attempt(run: Run) -> None:
    push(run, lines(1, 4))
    after = {"attempt": 1, "seq": 3}
    attempt_add(run, 2)
    push(run, [metrics(1, 4, loss=9)], attempt=2)
    points, upto = points_after(run=run, keys=["loss"], after=after)
    assert [point[:2] for point in points["loss"]] == [[4, 4], [4, 9]]
    assert upto == {"attempt": 2, "seq": 1}


def test_a_run_that_said_nothing_stands_at_zero(run: Run) -> None:
    assert cursor_of(run) == {"attempt": 0, "seq": 0}
    assert points_after(run=run, keys=["loss"], after=cursor_of(run))[0] == {}
