"""Schedules: the factor of the learning rate at each step."""

from __future__ import annotations

import math

import pytest

from trainer.registry import family

SCHEDULES = family("schedules")


def factors(tag: str, steps: int = 11, **knobs: float) -> list[float]:
    schedule = SCHEDULES[tag](type=tag, **knobs)
    return [schedule.factor(step, steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize("tag", sorted(SCHEDULES))
def test_it_warms_up_in_a_straight_line_and_never_exceeds_the_peak(tag: str) -> None:
    values = factors(tag, steps=20, warmup_steps=4)
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(0 <= value <= 1 for value in values)
    assert values[4:] == sorted(values[4:], reverse=True)


@pytest.mark.parametrize("tag", sorted(SCHEDULES))
def test_it_starts_at_the_peak_without_warm_up(tag: str) -> None:
    assert factors(tag)[0] == 1.0


def test_linear_falls_by_equal_amounts() -> None:
    assert factors("linear", steps=5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_way_at_the_middle() -> None:
    values = factors("cosine", steps=10)
    assert values[5] == pytest.approx(0.5)
    assert values[3] == pytest.approx(0.5 * (1 + math.cos(0.3 * math.pi)))


def test_wsd_holds_the_peak_and_then_falls() -> None:
    values = factors("wsd", steps=10, decay_share=0.4)
    assert values[:7] == [1.0] * 7
    assert values[7:] == pytest.approx([0.75, 0.5, 0.25])


@pytest.mark.parametrize("tag", ["linear", "cosine", "wsd"])
def test_a_floor_is_not_undercut(tag: str) -> None:
    values = factors(tag, steps=50, floor=0.1)
    assert min(values) >= 0.1
    assert values[-1] < 0.2
