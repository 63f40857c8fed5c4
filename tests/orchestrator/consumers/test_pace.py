"""At once the first time, then at most every so often, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.consumers.pace import Pace


async def test_the_first_change_is_due_at_once_and_the_next_one_later() -> None:
    pace: Pace[str] = Pace()
    begun = time.monotonic()
    pace.mark("loss", 0.1)
    assert await pace.next() == "loss"
    for _ in range(5):
        pace.mark("loss", 0.1)  # many changes are one
    assert await pace.next() == "loss"
    assert time.monotonic() - begun >= 0.1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.next(), 0.15)


async def test_a_change_wakes_who_waits() -> None:
    pace: Pace[str] = Pace()
    waiting = asyncio.create_task(pace.next())
    await asyncio.sleep(0.01)
    pace.mark("loss", 60)
    assert await asyncio.wait_for(waiting, 1) == "loss"


async def test_a_due_thing_does_not_wait_for_one_that_is_not() -> None:
    pace: Pace[str] = Pace()
    pace.mark("slow", 60)
    assert await pace.next() == "slow"
    pace.mark("slow", 60)
    waiting = asyncio.create_task(pace.next())
    await asyncio.sleep(0.01)
    pace.mark("fast", 0.01)
    assert await asyncio.wait_for(waiting, 1) == "fast"


async def test_what_is_forgotten_is_not_handed_out() -> None:
    pace: Pace[str] = Pace()
    pace.mark("loss", 0.01)
    pace.forget("loss")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.next(), 0.05)
