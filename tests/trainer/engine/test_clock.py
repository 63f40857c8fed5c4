"""The parts of a lap: they sum to it, and say when each was at work."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from trainer.engine.clock import Clock
from trainer.spans import SPANS_MOST


def lengths(clock: Clock) -> dict[str, float]:
    found: dict[str, float] = {}
    for phase, start, end in clock.spans:
        found[phase] = found.get(phase, 0.0) + end - start
    return found


def test_spans_say_when_each_part_was_at_work_and_add_up_to_the_lap():
    clock = Clock()
    with clock.part("rollout"):
        time.sleep(0.01)
        with clock.part("reward"):
            time.sleep(0.01)
        clock.spent("rollout")  # looking at the clock ends no span
        time.sleep(0.01)
    with clock.part("update"):
        time.sleep(0.01)
    times = clock.lap()
    told = [phase for phase, start, end in clock.spans if phase != "other"]
    assert told == ["rollout", "reward", "rollout", "update"]
    assert sum(lengths(clock).values()) == pytest.approx(times["time/step"], rel=1e-9)
    for phase, seconds in lengths(clock).items():
        assert seconds == pytest.approx(times[f"time/{phase}"], rel=1e-6, abs=1e-6)
    ends = [(one[2], other[1]) for one, other in pairwise(clock.spans)]
    assert all(end == start for end, start in ends)


def test_each_lap_has_its_own_spans():
    clock = Clock()
    with clock.part("data"):
        time.sleep(0.002)
    clock.lap()
    first = clock.spans
    with clock.part("update"):
        time.sleep(0.002)
    clock.lap()
    assert first[-1][2] <= clock.spans[0][1]
    assert "data" not in lengths(clock) and "update" in lengths(clock)


def test_a_lap_that_ends_within_a_part_divides_it():
    clock = Clock()
    with clock.part("rollout"):
        time.sleep(0.002)
        times = clock.lap()
        assert lengths(clock)["rollout"] == pytest.approx(times["time/rollout"], rel=1e-6)
        time.sleep(0.002)
    times = clock.lap()
    assert lengths(clock)["rollout"] == pytest.approx(times["time/rollout"], rel=1e-6)


def test_parts_that_alternate_endlessly_keep_their_sums():
    clock = Clock()
    with clock.part("update"):
        for _ in range(300):
            with clock.part("logprob"):
                pass
    times = clock.lap()
    assert len(clock.spans) <= SPANS_MOST + 3 and clock.folded > 0
    assert sum(lengths(clock).values()) == pytest.approx(times["time/step"], rel=1e-9)
    for phase in ("update", "logprob"):
        assert lengths(clock)[phase] == pytest.approx(times[f"time/{phase}"], rel=1e-6)


def test_a_process_may_have_parts_of_its_own():
    clock = Clock()
    with clock.part("wait"):
        time.sleep(0.002)
    assert clock.spent("wait") > 0 == clock.spent("never")
    times = clock.lap()
    assert lengths(clock)["wait"] == pytest.approx(times["time/wait"], rel=1e-6)
    assert sum(lengths(clock).values()) == pytest.approx(times["time/step"], rel=1e-9)
    assert "time/wait" not in clock.lap()
