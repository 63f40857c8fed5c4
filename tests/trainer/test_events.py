"""Numbers in journals: the ones that JSON lacks survive as strings."""

from __future__ import annotations

import json
import math

import pytest

from trainer.events import encode, number_decode, number_encode


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.5, 1e300, 3])
def test_a_number_survives_the_way(value: float) -> None:
    back = number_decode(json.loads(json.dumps(number_encode(value), allow_nan=False)))
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize("value", ["nan", "1.0", "", None, True, [1.0]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a number"):
        number_decode(value)


def test_non_finite_numbers_are_found_at_any_depth() -> None:
    line = encode({"values": {"loss": math.nan}, "logps": [-math.inf, -0.5]})
    assert json.loads(line) == {"values": {"loss": "NaN"}, "logps": ["-Infinity", -0.5]}


def test_a_line_holds_no_line_end() -> None:
    assert "\n" not in encode({"text": "two\nlines"})
