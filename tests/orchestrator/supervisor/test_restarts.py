"""A part that dies now and then is started again; one that cannot live is given up."""

from __future__ import annotations

from orchestrator.supervisor.restarts import Restarts


def test_it_waits_a_little_longer_each_time_but_never_two_seconds():
    restarts = Restarts()
    delays = [restarts.delay_after(now) for now in (0, 1, 2, 3)]
    assert delays == sorted(delays)
    assert max(delays) < 2


def test_it_gives_up_at_the_fifth_death_within_a_minute():
    restarts = Restarts()
    assert [restarts.delay_after(now) is None for now in (0, 10, 20, 30, 40)] == [False] * 4 + [
        True
    ]


def test_old_deaths_are_forgotten():
    restarts = Restarts()
    assert [restarts.delay_after(now) for now in range(0, 6000, 61)] == [0.0] * 99
