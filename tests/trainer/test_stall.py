"""When silence is a stall: by a clock that is given, so that nothing here waits."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.stall import StallWatch, Told, Whereabouts, doing_read

LOOK = 0.05


class Clock:
    """A watch and the time that passes for it."""

    def __init__(self, promise: float = 20.0) -> None:
        self.watch = StallWatch(grace=5.0)
        self.now, self.promise = 1000.0, promise
        self.found: list[str] = []

    def looks(self, seconds: float, spoke: bool = False, every: float = 0.5) -> list[str]:
        """Look for so many seconds; what was found in them. `spoke` counts for the first look."""
        end, found = self.now + seconds, []
        while self.now < end:
            self.now += every
            if event := self.watch.look(self.now, spoke=spoke, promise=self.promise):
                found.append(event)
            spoke = False
        return found


@pytest.fixture
def clock() -> Clock:
    found = Clock()
    found.looks(1, spoke=True)
    return found


def test_a_broken_promise_is_a_stall_after_the_grace(clock):
    assert clock.looks(24) == []
    assert clock.looks(2) == ["stall"]


def test_it_is_told_once_and_its_end_too(clock):
    assert clock.looks(500) == ["stall"]
    assert clock.looks(10, spoke=True) == ["over"]
    assert clock.looks(500) == ["stall"]


def test_a_trainer_that_speaks_in_time_stalls_never(clock):
    assert [event for _ in range(50) for event in clock.looks(24, spoke=True)] == []


def test_host_that_stood_still_itself_counts_anew(clock):
    clock.looks(15)
    clock.now += 3600
    assert clock.looks(24) == []
    assert clock.looks(3) == ["stall"]


def test_a_stall_outlasts_a_host_that_stood_still(clock):
    assert clock.looks(40) == ["stall"]
    clock.now += 3600
    assert clock.looks(40) == []
    assert clock.watch.stalled


def test_until_its_first_word_a_trainer_may_load():
    watch, now, promise = StallWatch(grace=5.0), 0.0, Told().promise
    assert promise == 300
    while now < 304:
        assert watch.look(now, spoke=False, promise=promise) is None
        now += LOOK * 20
    assert watch.look(now + 2, spoke=False, promise=promise) == "stall"


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("reward\n19.0\nas ever\n   ", "reward"),
        ("", "train"),
        ("reward", "train"),
        ("reward\nsoon\nas ever", "train"),
        ("reward\nnan\nas ever", "train"),
        ("\n19\nas ever", "train"),
    ],
)
def test_where_it_is_stands_in_a_file_that_is_newer_than_its_last_line(tmp_path, text, phase):
    path = tmp_path / "doing"
    path.write_text(text)
    found = doing_read(path, Told("train", 5, 64.0, "a guess"))
    assert (found.phase, found.step) == (phase, 5)
    assert found.promise == (19 if phase == "reward" else 64)


@pytest.mark.parametrize("phase", ["start", "exit"])
def test_before_its_first_and_behind_its_last_line_the_file_tells_nothing(tmp_path, phase):
    path = tmp_path / "doing"
    path.write_text("reward\n19.0\nas ever\n")
    assert doing_read(path, Told(phase)).phase == phase
    assert doing_read(tmp_path / "none", Told("train")).phase == "train"


def test_a_part_that_begins_in_the_same_tick_of_the_clock_is_seen(tmp_path):
    path = tmp_path / "doing"
    whereabouts = Whereabouts(path)
    assert not whereabouts.moved()
    for text, stamp, moved in [
        ("update\n7.5\nas ever", 1, True),
        ("update\n7.5\nas ever", 1, False),
        ("checkpoint\n600\nas ever", 1, True),
        ("checkpoint\n600\nas ever", 2, True),
    ]:
        path.write_text(text)
        os.utime(path, ns=(0, stamp))
        assert whereabouts.moved() is moved, (text, stamp)


def test_the_promise_in_force_is_the_newest(clock):
    clock.promise = 300
    assert clock.looks(300) == []
    clock.promise = 20
    assert clock.looks(1) == ["stall"]


@given(st.lists(st.floats(0.01, 2.9), min_size=1, max_size=300))
def test_stalls_and_ends_take_turns_and_only_broken_promises_are_stalls(gaps):
    watch, now, heard, found = StallWatch(grace=1.0), 0.0, 0.0, []
    for place, gap in enumerate(gaps):
        now += gap
        spoke = place % 3 == 0
        heard = now if spoke or not place else heard
        event = watch.look(now, spoke=spoke, promise=2.0)
        if event == "stall":
            assert now - heard > 3.0
        if event:
            found.append(event)
    assert found == [("stall", "over")[place % 2] for place in range(len(found))]
