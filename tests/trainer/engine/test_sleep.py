"""vLLM is put to sleep and woken in the order that its memory needs."""

from __future__ import annotations

import pytest

from trainer.engine.sleep import Sleeper


class Llm:
    """Notes what is asked of it: the real one sleeps on a GPU only."""

    def __init__(self):
        self.calls = []

    def sleep(self, level):
        self.calls.append(("sleep", level))

    def wake_up(self, tags):
        self.calls.append(("wake", *tags))


@pytest.mark.parametrize(("level", "forgets"), [(1, False), (2, True)])
def test_weights_wake_first_and_are_wanted_again_where_they_were_forgotten(level, forgets):
    llm = Llm()
    sleeper = Sleeper(llm, level)
    assert not sleeper.wake_weights()
    sleeper.wake()
    assert llm.calls == []
    for _ in range(2):
        sleeper.rest()
        sleeper.rest()
        assert sleeper.wake_weights() is forgets
        sleeper.wake()
        assert not sleeper.wake_weights()
        sleeper.wake()
    once = [("sleep", level), ("wake", "weights"), ("wake", "kv_cache")]
    assert llm.calls == once * 2


def test_at_level_0_nothing_sleeps():
    llm = Llm()
    sleeper = Sleeper(llm, 0)
    sleeper.rest()
    assert not sleeper.wake_weights()
    sleeper.wake()
    assert llm.calls == []
