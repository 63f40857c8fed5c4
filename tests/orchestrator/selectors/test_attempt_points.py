"""The first bad value and the last points of an attempt, from chunks and blocks alike, and how fast."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from django.utils import timezone

from orchestrator.models import Block, Event, LogLine, Run
from orchestrator.selectors import attempt_points
from orchestrator.selectors.attempt_points import SICK, AttemptPoints, first_sick_step
from orchestrator.selectors.points import BlocksMoved
from orchestrator.selectors.post_mortem import post_mortem_read
from orchestrator.services.compaction import pack
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db


def packed(run: Run) -> None:
    for number in (1, 2):
        while pack(run_id=run.pk, attempt=number).points:
            pass


def unpacked(run: Run) -> None:
    """Leave the points where they came."""


@pytest.fixture(params=[packed, unpacked])
def stored(request: Any) -> Callable[[Run], None]:
    """Both ways in which points lie in the database."""
    found: Callable[[Run], None] = request.param
    return found


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("step", [1, 511, 512, 513, 1400])
def test_the_first_bad_value_is_exact_wherever_it_lies(
    run: Run, stored: Callable[[Run], None], value: str, step: int
) -> None:
    story = Story(run, pace=0.1)
    if step > 1:
        story.steps(1, step - 1)
    story.steps(step, step, grad_norm=value).steps(step + 1, 1500).steps(1501, 1501, loss="NaN")
    stored(run)
    found = AttemptPoints(run, 1).first_sick(SICK)
    assert {key: int(point["step"]) for key, point in found.items()} == {
        "grad_norm": step,
        "loss": 1501,
    }
    assert first_sick_step(run, 1) == step


def test_of_an_attempt_alone(run: Run, stored: Callable[[Run], None]) -> None:
    Story(run).steps(1, 10).steps(11, 11, loss="NaN")
    attempt_add(run, 2)
    Story(run, attempt=2).steps(5, 6).steps(7, 7, loss="NaN").steps(8, 30)
    stored(run)
    assert first_sick_step(run, 1) == 11
    assert first_sick_step(run, 2) == 7
    assert AttemptPoints(run, 1).count("loss") == 11
    points = AttemptPoints(run, 2)
    assert points.last("loss", 3)["step"].tolist() == [28, 29, 30]
    assert points.count("loss") == 26
    assert AttemptPoints(run, 3).keys == []


def test_the_last_points_and_those_up_to_a_moment(run: Run, stored: Callable[[Run], None]) -> None:
    story = Story(run, pace=1.0).steps(1, 600)
    begun = story.now - 600
    stored(run)
    points = AttemptPoints(run, 1)
    assert points.last("loss", 1000)["place"].tolist() == list(range(600))
    assert points.upto("loss", step=250)[-1]["step"] == 250
    assert points.upto("loss", time=begun + 99.5)[-1]["step"] == 99
    assert len(points.upto("loss", step=0)) == 0


def test_blocks_and_the_tail_behind_them_are_one_line(run: Run) -> None:
    story = Story(run).steps(1, 700)
    packed(run)
    assert Block.objects.exists()
    story.steps(701, 710).steps(711, 711, loss="NaN")
    points = AttemptPoints(run, 1)
    assert points.last("loss", 20)["step"].tolist() == list(range(692, 712))
    assert points.upto("loss", step=705)[-1]["step"] == 705
    assert points.upto("loss", step=650)[-1]["step"] == 650
    assert int(points.first_sick(["loss"])["loss"]["step"]) == 711


def test_blocks_that_move_are_looked_at_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Story(run).steps(1, 20).steps(21, 21, loss="NaN")
    packed(run)
    real, moved = attempt_points.picks_read, [True, True]

    def once(keys: Any) -> Any:
        if moved and moved.pop():
            raise BlocksMoved
        return real(keys)

    monkeypatch.setattr(attempt_points, "picks_read", once)
    assert first_sick_step(run, 1) == 21
    assert not moved


@pytest.mark.slow
def test_a_million_points_are_looked_into_quickly(run: Run) -> None:
    """Forty metrics of 25,000 steps that all become NaN, 200,000 log lines, 20,000 events."""
    names = {f"m{n}": 1.0 for n in range(38)}
    story = Story(run, pace=0.5, ago=20_000)
    for first in range(1, 25_001, 1000):
        story.steps(first, first + 999, **names)
        pack(run_id=run.pk, attempt=1)
    packed(run)
    lines = [
        LogLine(run=run, attempt=1, source="host", seq=n, time=story.now, text=f"line {n} " * 20)
        for n in range(10**6, 10**6 + 200_000)
    ]
    LogLine.objects.bulk_create(lines, batch_size=10_000)
    moment = timezone.now()
    words = {"state": "running", "phase": "eval", "step": 1}
    told = [
        Event(run=run, attempt=1, source="trainer", time=moment, type="status", data=words)
        for _ in range(20_000)
    ]
    Event.objects.bulk_create(told, batch_size=10_000)
    story.steps(25_001, 25_001, loss="NaN", **dict.fromkeys(names, "NaN"))
    story.fails("nan", "step 25001: loss became nan")
    spent = []
    for _ in range(5):
        begun = time.perf_counter()
        found = post_mortem_read(run)
        spent.append(time.perf_counter() - begun)
    assert (found["first"]["step"], found["healthy"]["step"]) == (25_001, 25_000)
    print(f"post-mortem of {40 * 25_001:,} points: {1e3 * float(np.median(spent)):.0f} ms")
    assert min(spent) < 1.0
