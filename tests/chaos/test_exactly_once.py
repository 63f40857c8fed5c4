"""Every point that a writer journalled is stored exactly once, whatever dies and whatever the network does.

`ANNEAL_SCALE=1` is the promise's full size: 32 writers of 10,000 points and 24 kills. The default is a
quarter of the writers, a sixth of their points, and 6 kills.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.comparison import assert_everything_arrived
from tests.chaos.faults import FaultProxy
from tests.chaos.fleet import Fleet
from tests.chaos.stack import Stack
from tests.chaos.storm import Storm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

FULL = float(os.environ.get("ANNEAL_SCALE") or 0.2) >= 1
WRITERS, POINTS, SECONDS = (32, 10_000, 80.0) if FULL else (8, 1_500, 15.0)
# `up` gives a part up that dies five times within a minute.
VICTIMS = (
    ["ship"] * 6 + ["web", "database", "control", "node"] * 4 + ["backend"] * 2
    if FULL
    else ["ship", "web", "database", "backend", "control", "node"]
)
PATIENCE = 240.0 if FULL else 60.0
SEED = int(os.environ.get("ANNEAL_SEED") or 1)


@pytest.fixture
def stack() -> Iterator[Stack]:
    found = Stack()
    try:
        found.up()
        yield found
    finally:
        found.remove()


def test_count_order_and_value_of_every_series_are_exact(stack: Stack) -> None:
    with FaultProxy(stack.port, SEED) as proxy:
        fleet = Fleet(stack, stack.folder / "writers", proxy.port)
        try:
            storm = Storm(fleet, random.Random(SEED))
            begun = time.monotonic()
            fleet.launch(WRITERS, POINTS, SECONDS, SEED)
            storm.blow(VICTIMS, SECONDS)
            fleet.tend_until_delivered(PATIENCE + SECONDS)
            took = time.monotonic() - begun
            count = assert_everything_arrived(fleet)
            ((packed,),) = stack.query("SELECT coalesce(sum(count), 0) FROM orchestrator_block")
        finally:
            fleet.end()
    assert packed, "the control worker packed nothing: the storm has tried only half of the layout"
    print(
        f"\n{count:,} points ({packed:,} of them packed) of {WRITERS} writers, {sum(storm.killed.values())} kills"
        f" {dict(storm.killed)}, faults {dict(proxy.done)}, delivered after {took:.0f} s"
    )
    assert count == WRITERS * POINTS
    assert all(proxy.done[fault] for fault in ("drop", "double", "swap", "delay", "tear"))
