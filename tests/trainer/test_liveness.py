"""Processes that stand still are noticed by what they no longer touch, and only they."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from trainer.liveness import STARTS_WITHIN, Touches, Watch, touch


@pytest.fixture
def watch(tmp_path):
    found = Watch(tmp_path / "ship.alive", limit=10.0)
    touch(found.path)
    assert found.hangs(100.0) == 0
    return found


def looks(watch: Watch, begin: float, end: float) -> list[float]:
    """What was found by a look each second."""
    return [found for now in range(int(begin), int(end)) if (found := watch.hangs(float(now)))]


def test_what_is_no_longer_touched_hangs(watch):
    assert looks(watch, 101, 111) == []
    assert looks(watch, 111, 114) == [11, 12, 13]


def test_what_is_touched_does_not(watch):
    for now in range(101, 200):
        os.utime(watch.path, ns=(now, now))
        assert watch.hangs(float(now)) == 0


def test_a_clock_that_is_set_changes_nothing(watch):
    os.utime(watch.path, (0, 0))
    assert looks(watch, 101, 110) == []
    assert looks(watch, 110, 113) == [11]


def test_a_watcher_that_stood_still_counts_anew(watch):
    looks(watch, 101, 108)
    assert watch.hangs(900.0) == 0
    assert looks(watch, 901, 911) == []


def test_what_never_touched_anything_is_left_alone(tmp_path):
    assert looks(Watch(tmp_path / "none", limit=2.0), 0, 100) == []


def test_a_new_one_has_time_to_start(watch):
    looks(watch, 101, 111)
    watch.again(111.0)
    assert looks(watch, 112, 111 + int(STARTS_WITHIN) + 10) == []


def test_touches_are_about_a_second_apart(tmp_path):
    touches = Touches(tmp_path / "deep" / "host.alive")
    touches.turn(1.0)
    first = touches.path.stat().st_mtime_ns
    time.sleep(0.02)
    touches.turn(1.5)
    assert touches.path.stat().st_mtime_ns == first
    touches.turn(2.1)
    assert touches.path.stat().st_mtime_ns > first


def test_a_disk_that_takes_nothing_stops_nobody():
    touch(Path("/proc/nothing/here"))
