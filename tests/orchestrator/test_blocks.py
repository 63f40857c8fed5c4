"""Points survive their bytes to the bit, and what is picked of parts is what is picked of the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import blocks

WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]),
    st.floats(width=64),
)


@given(st.lists(WHOLE, min_size=1, max_size=50))
def test_any_whole_numbers_come_back(numbers: list[int]) -> None:
    column = np.array(numbers, np.int64)
    assert blocks.integers_unpack(blocks.integers_pack(column), len(numbers)).tolist() == numbers


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        (range(1, 8193), 17),
        (range(5, 5 + 8192 * 50, 50), 17),
        (range(8192, 0, -1), 17),
        ([7], 17),
        ([1, 2, 4, 1000], 17 + 3 * 2),
        ([1, 2, 3, 2**40], 17 + 4 * 8),
        ([3, 2, 3], 17 + 3 * 8),
    ],
)
def test_columns_are_small_where_steps_are_even(numbers: Any, size: int) -> None:
    column = np.array(numbers, np.int64)
    data = blocks.integers_pack(column)
    assert len(data) == size
    assert (blocks.integers_unpack(data, len(column)) == column).all()


def test_a_chunk_gives_back_its_lines() -> None:
    lines = np.array([(4, 10, 1.5, 2), (5, 11, 2.5, 1), (6, 11, 3.5, 0)], blocks.LINE)
    values = np.array([(70, 0.1 + 0.2), (80, math.nan), (70, -math.inf)], blocks.VALUE)
    data = blocks.chunk_pack(lines, values)
    series, points = blocks.chunk_unpack(data, 3)
    assert series.tolist() == [70, 80, 70]
    assert points["seq"].tolist() == [4, 4, 5]
    assert points["step"].tolist() == [10, 10, 11]
    assert points["time"].tolist() == [1.5, 1.5, 2.5]
    assert points["value"].tobytes() == values["value"].tobytes()
    series, points = blocks.chunk_unpack(data, 3, np.array([60, 80]))
    assert (series.tolist(), points["seq"].tolist()) == ([80], [4])


def naive(values: list[float], buckets: list[int]) -> list[int]:
    """The picked places by their definition."""
    found = set()
    for bucket in set(buckets):
        places = [place for place, mine in enumerate(buckets) if mine == bucket]
        for kind in (True, False):
            ends = [place for place in places if math.isnan(values[place]) is kind]
            found |= {*ends[:1], *ends[-1:]}
        known = [place for place in places if not math.isnan(values[place])]
        if known:
            found |= {min(known, key=lambda p: values[p]), max(known, key=lambda p: values[p])}
    return sorted(found)


@given(st.lists(VALUES, min_size=1, max_size=60), st.integers(0, 5))
def test_picked_is_what_its_definition_says(values: list[float], bits: int) -> None:
    column = np.array(values)
    buckets = np.arange(len(values)) >> bits
    starts = blocks.bucket_starts(buckets)
    assert blocks.picked(column, starts).tolist() == naive(values, buckets.tolist())


@given(st.lists(VALUES, min_size=1, max_size=80), st.integers(0, 3), st.integers(0, 4))
def test_picking_from_what_was_picked_is_picking_from_all(
    values: list[float], fine: int, coarser: int
) -> None:
    column = np.array(values)
    numbers = np.arange(len(values))
    first = blocks.picked(column, blocks.bucket_starts(numbers >> fine))
    bits = fine + coarser
    again = blocks.picked(column[first], blocks.bucket_starts(first >> bits))
    whole = blocks.picked(column, blocks.bucket_starts(numbers >> bits))
    assert first[again].tolist() == whole.tolist()


def test_picks_follow_the_grain_of_the_whole_attempt() -> None:
    """A block that begins within a grain shares that grain with the block before it."""
    points = np.zeros(10, blocks.POINT)
    points["value"] = [5, 1, 9, 2, 2, 2, 2, 2, 2, 7]
    points["step"] = [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]
    points["time"] = [0, 1, 2, 3, 4, 5, 6, 90, 91, 92]
    picks = blocks.picks_make(points, start=blocks.GRAIN - 3)
    # Points 0-2 end one grain, 3-9 begin the next, which leaps in steps behind 4 and in time behind 6.
    assert picks["place"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert picks["value"].tolist() == [5, 1, 9, 2, 2, 2, 2, 2, 7]
