"""Attempts between claim and host: their GPUs are theirs, also when orders arrive at the same moment."""

from __future__ import annotations

import threading

from orchestrator.node.preparing import Preparing


def test_of_many_orders_for_one_gpu_at_the_same_moment_one_gets_it():
    preparing, start, got = Preparing(), threading.Barrier(16), []

    def order(number):
        key = (f"run{number}", 1)
        preparing.begin(key)
        start.wait()
        if not preparing.gpus_take(key, [0, number + 1], set):
            got.append(key)

    threads = [threading.Thread(target=order, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and list(preparing.gpus_of()) == [got[0][0]]


def test_what_is_fenced_is_over_until_it_ends_and_others_are_not_touched():
    preparing = Preparing()
    preparing.begin(("a", 1))
    preparing.fence(("a", 2))
    assert not preparing.is_over(("a", 1)) and not preparing.is_over(("a", 2))
    preparing.fence(("a", 1))
    assert preparing.is_over(("a", 1)) and preparing.attempts() == [("a", 1)]
    preparing.end(("a", 1))
    assert not preparing and not preparing.is_over(("a", 1))


def test_nothing_begins_while_it_is_at_rest():
    preparing = Preparing()
    with preparing.at_rest() as quiet:
        assert quiet
        thread = threading.Thread(target=preparing.begin, args=(("a", 1),))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
    thread.join(10)
    with preparing.at_rest() as quiet:
        assert not quiet
