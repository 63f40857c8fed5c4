"""One save at a time beside the training; its results and errors come back where the journal is written."""

from __future__ import annotations

import threading
import time

import pytest

from trainer.engine.writer import Writer


@pytest.mark.parametrize("background", [True, False])
def test_it_gives_each_result_once(background):
    writer = Writer(lambda: None, background=background)
    writer.start(lambda: 1)
    assert writer.wait() == [1]
    assert writer.wait() == writer.finished() == []
    writer.start(lambda: 2)
    assert writer.wait() == [2]


def test_the_training_goes_on_while_it_works():
    ticks, gate = [], threading.Event()
    writer = Writer(lambda: ticks.append(threading.current_thread()), background=True)
    writer.start(lambda: gate.wait(10) and threading.current_thread().name)
    assert writer.finished() == []
    threading.Timer(0.5, gate.set).start()
    assert writer.wait() == ["checkpoint-writer"]
    # Heartbeats while the training waits, from its own thread.
    assert len(ticks) >= 2 and set(ticks) == {threading.current_thread()}


@pytest.mark.parametrize("look", ["wait", "finished"])
def test_an_error_is_raised_where_somebody_can_act_on_it(look):
    def fail():
        raise OSError(28, "No space left on device")

    writer = Writer(lambda: None, background=True)
    writer.start(fail)
    deadline = time.monotonic() + 10
    with pytest.raises(OSError, match="No space left"):
        while time.monotonic() < deadline:
            getattr(writer, look)()
    assert writer.wait() == []


def test_without_a_thread_errors_come_at_once():
    writer = Writer(lambda: None, background=False)
    with pytest.raises(ZeroDivisionError):
        writer.start(lambda: 1 // 0)
