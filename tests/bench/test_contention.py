"""Timed rows of the known bugs."""

from __future__ import annotations

import pytest

from tests.bench.contention import slowdown


@pytest.mark.slow
def test_bug_50_a_busy_neighbour_does_not_stop_a_training_step() -> None:
    """Less than 1.5 times as long beside it; on a machine that is busy anyway, half of spinning's time."""
    found = []
    for _ in range(3):
        alone, beside = slowdown(25, passive=True)
        found.append(beside / alone)
        if found[-1] < 1.5:
            return
        spinning = slowdown(25, passive=False)[1]
        if 2 * beside < spinning:
            return
    pytest.fail(f"times as long beside a neighbour: {found}")
