"""Thinning keeps what a chart must not hide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.selectors.thinning import POINTS_PER_BUCKET, bits_for, spans_of, thin


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=True, allow_infinity=True, width=64),
            st.sampled_from([math.nan, 0.0, 1.0]),
        ),
        min_size=9,
        max_size=300,
    ),
    st.integers(8, 80),
    st.randoms(use_true_random=False),
)
def test_thinning_is_exact(values: list[float], most: int, chance) -> None:
    """First, last, lowest and highest of the whole and all NaN buckets survive, whatever the data."""
    numbers = np.array(sorted(chance.sample(range(3 * len(values)), len(values))))
    y = np.array(values)
    bits = bits_for(spans_of(numbers), most)
    thinned = thin(numbers, y, bits, numbers)
    assert len(thinned.places) <= most
    kept = y[thinned.places]
    known = y[~np.isnan(y)]
    assert np.isnan(y).any() == np.isnan(kept).any()
    if len(known):
        assert np.nanmin(kept) == known.min() == np.nanmin(thinned.low)
        assert np.nanmax(kept) == known.max() == np.nanmax(thinned.high)
    for place, low, high in zip(thinned.places, thinned.low, thinned.high, strict=True):
        mine = y[(numbers >> bits) == numbers[place] >> bits]
        mine = mine[~np.isnan(mine)]
        assert (low, high) == (mine.min(), mine.max()) if len(mine) else math.isnan(low)


def test_a_growing_curve_keeps_its_old_buckets() -> None:
    values = np.random.default_rng(0).normal(size=4096)
    numbers = np.arange(4096)
    bits = [bits_for(spans_of(numbers[:n]), 600) for n in (3300, 4096)]
    assert bits == [6, 6]
    short = thin(numbers[:3300], values[:3300], 6, numbers[:3300])
    long = thin(numbers, values, 6, numbers)
    settled = [place for place in short.places.tolist() if place < 3300 // 64 * 64]
    assert settled and set(settled) <= set(long.places.tolist())


def test_both_sides_of_a_gap_are_kept_and_even_steps_are_no_gap() -> None:
    numbers, values = np.arange(64), np.zeros(64)
    x = np.where(numbers < 21, numbers, numbers + 300)
    assert thin(numbers, values, 6, x).places.tolist() == [0, 20, 21, 63]
    assert thin(numbers, values, 6, 50 * numbers).places.tolist() == [0, 63]
    # Where points were left out between two picks, their distance says nothing.
    few = np.array([0, 20, 21, 40, 63])
    close = np.diff(few) == 1
    assert thin(few, values[few], 6, x[few], close).places.tolist() == [0, 1, 2, 4]
    assert thin(few, values[few], 6, few, close).places.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("numbers", "spans"),
    [([], []), ([3], [[3, 3]]), ([1, 2, 3, 7, 9, 10], [[1, 3], [7, 7], [9, 10]])],
)
def test_spans_are_unbroken(numbers: list[int], spans: list[list[int]]) -> None:
    assert spans_of(np.array(numbers, int)).tolist() == spans


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=300, unique=True),
    st.integers(6, 200),
)
def test_buckets_are_as_small_as_the_room_allows(places: list[int], most: int) -> None:
    numbers = np.array(sorted(places))
    room = max(1, most // POINTS_PER_BUCKET)
    bits = bits_for(spans_of(numbers), most)
    assert len(np.unique(numbers >> bits)) <= room
    if bits:
        # Buckets of half the size would be too many.
        assert len(np.unique(numbers >> bits - 1)) > room
