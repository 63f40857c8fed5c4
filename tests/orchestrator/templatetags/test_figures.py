"""Numbers and times as people read them."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.templatetags.figures import (
    ago,
    duration,
    figure,
    give_or_take,
    percent,
    share,
    short_seconds,
    signed_seconds,
    size,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (12, "12"),
        (1_234_567, "1 234 567"),
        (-5, "−5"),
        (0.5, "0.500"),
        (0.98765, "0.988"),
        (12.345, "12.3"),
        (999.4, "999"),
        (12345.6, "12 346"),
        (0.00123, "0.00123"),
        (0.0000012, "1.20e-6"),
        (-0.25, "−0.250"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        ("NaN", "NaN"),
        ("-Infinity", "−∞"),
    ],
)
def test_numbers_keep_three_digits(value: object, text: str) -> None:
    assert figure(value) == text.replace(" ", "\u2009")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.26, "0.3 s"),
        (45, "45 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (4320, "1 h 12 min"),
        (None, "–"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_relative_with_the_absolute_on_hover() -> None:
    then = timezone.now() - timedelta(minutes=5)
    shown = ago(then)
    assert "5 min ago" in shown and f"{then:%Y-%m-%d %H:%M:%S}" in shown
    assert ago(then.isoformat()) == shown
    assert ago(None) == "–"


def test_sizes_are_binary() -> None:
    assert size(2_711_552) == "2.59 MiB"
    assert size(100) == "100 B"


def test_a_bar_never_leaves_its_box() -> None:
    assert (percent(5, 10), percent(30, 10), percent(1, 0)) == (50.0, 100.0, 0.0)


@pytest.mark.parametrize(
    ("value", "short", "signed"),
    [
        (None, "–", "not measured"),
        (0.0, "0 ms", "0 ms"),
        (0.0042, "4.20 ms", "+4.20 ms"),
        (-0.5, "−500 ms", "−500 ms"),
        (3.2, "3.20 s", "+3.20 s"),
        (-7260.0, "–", "−2 h 1 min"),
        (125.0, "2 min 5 s", "+2 min 5 s"),
    ],
)
def test_short_times_and_differences_of_clocks(
    value: float | None, short: str, signed: str
) -> None:
    assert (short_seconds(value), signed_seconds(value)) == (short, signed)


def test_an_uncertainty_is_only_shown_when_there_is_one() -> None:
    assert (give_or_take(None), give_or_take(0.004)) == ("", "± 4.00 ms")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0 %"), (1.0, "100 %"), (0.624, "62 %"), (0.0096, "1 %"), (0.004, "0.4 %")),
        *((0.99, "99 %"), (0.996, "99.6 %"), (0.99999, "99.9 %")),
    ],
)
def test_a_share_is_shown_neither_as_none_nor_as_all_of_it_when_it_is_not(
    value: float, text: str
) -> None:
    assert share(value) == text
