"""While the first process waits it lives as long as the others do, and obeys."""

from __future__ import annotations

import os

import pytest

from trainer.control import Control
from trainer.engine import mute, together
from trainer.engine.failure import Halt
from trainer.engine.mute import Mute


@pytest.fixture
def ticks(session, monkeypatch):
    """How often the first process was heard of; every call looks."""
    told = []
    monkeypatch.setattr(together, "TOUCH_EVERY", 0.0)
    monkeypatch.setattr(mute, "TOUCH_EVERY", 0.0)
    monkeypatch.setattr(session.report, "tick", lambda: told.append(1))
    return told


def test_it_is_heard_of_while_another_one_works_and_not_while_all_hang(session, ticks):
    files = [session.attempt.alive(f"rank-{rank}") for rank in (1, 2)]
    others = [Mute(file) for file in files]
    waiting = together.Waiting(session, files)
    waiting()
    assert ticks == [], "nobody has done anything"
    for other, times in ((others[0], 1), (others[1], 2)):
        other.tick()
        waiting()
        waiting()
        assert len(ticks) == times


def test_signs_of_life_are_no_more_than_a_few_a_second(session):
    file = session.attempt.alive("rank-1")
    other = Mute(file)
    os.utime(file, (1.0, 1.0))
    other.tick()
    first = file.stat().st_mtime
    os.utime(file, (1.0, 1.0))
    other.tick()
    assert first > 1.0 == file.stat().st_mtime


def test_it_obeys_while_it_waits(session, ticks):
    waiting = together.Waiting(session, [])
    Control("stop", "user", "stopped by ada").write(session.attempt.control)
    session.orders._next_look = 0.0
    with pytest.raises(Halt, match="stopped by ada"):
        waiting()
