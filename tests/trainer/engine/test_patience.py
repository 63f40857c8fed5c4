"""Watching a reward: ticks while it works, an end to waiting, and silence between two rewards."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from trainer.engine import patience
from trainer.engine.failure import Failure, Halt
from trainer.engine.patience import Patience


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(patience, "LOOK", 0.01)


def test_it_ticks_while_a_reward_works_and_not_between_rewards():
    ticks = []
    with Patience(lambda: ticks.append(1)) as watch:
        with watch.wait("slow", 60):
            time.sleep(0.1)
        inside = len(ticks)
        time.sleep(0.1)
    assert inside > 2 and len(ticks) == inside


def test_it_gives_up_with_the_name_and_the_limit():
    said = r"rewards: judge has worked for more than 0\.05 s"
    with (
        pytest.raises(Failure, match=said),
        Patience(lambda: None) as watch,
        watch.wait("judge", 0.05),
    ):
        time.sleep(60)


def test_each_call_has_the_whole_limit():
    with Patience(lambda: None) as watch:
        for _ in range(4):
            with watch.wait("judge", 0.1):
                time.sleep(0.05)


def test_an_exception_that_the_reward_catches_ends_the_wait_all_the_same():
    def halt():
        raise Halt("stopped", "user", "enough")

    with pytest.raises(Halt, match="enough"), Patience(halt) as watch, watch.wait("judge", 60):
        try:
            time.sleep(60)
        except Halt:
            raise RuntimeError("the server is gone") from None


def test_an_error_of_the_reward_itself_is_passed_on():
    with pytest.raises(ZeroDivisionError), Patience(lambda: None) as watch, watch.wait("judge", 60):
        raise ZeroDivisionError


def test_the_timer_is_given_back():
    before = signal.getsignal(signal.SIGALRM)
    with Patience(lambda: None):
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_outside_the_main_thread_a_reward_is_waited_for():
    found = []

    def work():
        with Patience(lambda: found.append("tick")) as watch, watch.wait("judge", 0.01):
            time.sleep(0.05)
        found.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["done"]
