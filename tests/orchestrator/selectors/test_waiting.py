"""Moments that waiting runs are told: rounded up, true, and steady while a pace wavers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.planner.plan import Wait, Why
from orchestrator.selectors.waiting import moment_words, need_words, starts_by

NOW = datetime(2026, 3, 4, 10, 2, 30, tzinfo=UTC)


def wait(seconds: float | None, held: tuple[str, ...] = ("m",)) -> Wait:
    return Wait("r", 1, Why.ROOM, held, seconds)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (60.0, "10:05"),
        (150.0, "10:05"),
        (151.0, "10:10"),
        (3 * 3600.0, "14:00"),
        (30 * 3600.0, "18:00"),
    ],
)
def test_a_moment_is_rounded_up_the_more_the_farther_it_is(seconds, told):
    moment = starts_by(wait(seconds), NOW, None)
    assert moment is not None and f"{moment:%H:%M}" == told
    assert moment >= NOW + timedelta(seconds=seconds)


def test_what_was_told_stays_while_it_is_true_and_not_much_too_late():
    told = starts_by(wait(600.0), NOW, None)
    assert starts_by(wait(500.0), NOW, told) == told
    later = starts_by(wait(1200.0), NOW, told)
    assert later is not None and told is not None and later > told
    assert starts_by(wait(5.0), NOW, later) < told


def test_nobody_is_told_a_moment_that_nobody_knows():
    assert starts_by(wait(None), NOW, None) is None
    assert starts_by(wait(60.0, ()), NOW, None) is None


def test_another_day_is_named():
    assert moment_words(NOW, NOW) == "10:02 UTC"
    assert moment_words(NOW + timedelta(days=1), NOW) == "Thu 05 Mar 10:02 UTC"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({}, "a free slot"),
        ({"gpus": 0}, "a free slot"),
        ({"gpus": 1}, "a free GPU"),
        ({"gpus": 3, "min_vram_gb": 40}, "3 free GPUs with 40 GiB"),
        ({"min_vram_gb": 24}, "a free GPU with 24 GiB"),
    ],
)
def test_needs_in_words(resources, words):
    assert need_words({"resources": resources}) == words
