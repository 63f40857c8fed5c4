"""The comparison of the chaos tests notices every kind of damage, and takes what is right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.chaos.comparison import Curve, assert_equal, assert_full, assert_reduced
from tests.chaos.script import Script
from tests.chaos.stored import Row, once
from trainer.events import number_encode

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Script(7, 3000)  # of three attempts
KEY = "loss"


def rows() -> list[Row]:
    """What a faithful server stores."""
    found = SCRIPT.points_journalled().items()
    return [Row(*place, step, 0.0, value) for place, (step, value) in found]


def compare(found: list[Row]) -> None:
    assert_equal("run", once("run", found)[0], SCRIPT.points_journalled())


def place_of(found: list[Row], fits: Callable[[float], bool]) -> int:
    return next(place for place, row in enumerate(found) if fits(row.value))


def test_the_script_has_all_that_the_promise_names() -> None:
    values = [value for _, value in SCRIPT.points_journalled().values()]
    assert len(values) == SCRIPT.points and SCRIPT.attempts == 3
    assert any(map(math.isnan, values)) and {math.inf, -math.inf} <= set(values)
    steps = [set(SCRIPT.curves(attempt)[KEY]) for attempt in (1, 2, 3)]
    assert steps[0] & steps[1] and steps[1] & steps[2], "resumed attempts log steps again"


def test_what_is_right_passes_in_any_order() -> None:
    compare(rows())
    compare(rows()[::-1])


def lost(found: list[Row]) -> list[Row]:
    return found[:500] + found[501:]


def doubled(found: list[Row]) -> list[Row]:
    return [*found, found[500]]


def doubled_elsewhere(found: list[Row]) -> list[Row]:
    return [*found, found[-1]._replace(seq=found[-1].seq + 1)]


def swapped(found: list[Row]) -> list[Row]:
    at = next(n for n in range(500, 900) if found[n].key == found[n + 3].key)
    one, two = found[at], found[at + 3]
    found[at], found[at + 3] = one._replace(value=two.value), two._replace(value=one.value)
    return found


def steps_swapped(found: list[Row]) -> list[Row]:
    at = next(n for n in range(500, 900) if found[n].step != found[n + 5].step)
    one, two = found[at], found[at + 5]
    found[at], found[at + 5] = one._replace(step=two.step), two._replace(step=one.step)
    return found


def changed(fits: Callable[[float], bool], to: Callable[[float], float]) -> Any:
    def change(found: list[Row]) -> list[Row]:
        at = place_of(found, fits)
        found[at] = found[at]._replace(value=to(found[at].value))
        return found

    return change


def attempts_mixed(found: list[Row]) -> list[Row]:
    mixed = {1: 2, 2: 1}
    return [row._replace(attempt=mixed.get(row.attempt, row.attempt)) for row in found]


def is_minus_zero(found: float) -> bool:
    return found == 0 and math.copysign(1, found) < 0


DAMAGE: dict[str, tuple[Callable[[list[Row]], list[Row]], str]] = {
    "a point is lost": (lost, "lost"),
    "a point is there twice": (doubled, "twice"),
    "a point is there twice under another seq": (doubled_elsewhere, "never logged"),
    "two values are swapped": (swapped, "logged as"),
    "two steps are swapped": (steps_swapped, "logged as"),
    "the last bit differs": (
        changed(math.isfinite, lambda found: float(np.nextafter(found, math.inf))),
        "logged as",
    ),
    "a NaN became a number": (changed(math.isnan, lambda _: 0.0), "logged as"),
    "an infinity became a NaN": (changed(math.isinf, lambda _: math.nan), "logged as"),
    "an infinity changed its sign": (changed(math.isinf, lambda found: -found), "logged as"),
    "a zero lost its sign": (changed(is_minus_zero, abs), "logged as"),
    "a denormal became zero": (changed(lambda found: found == 5e-324, lambda _: 0.0), "logged as"),
    "two attempts are mixed up": (attempts_mixed, "lost|never logged|logged as"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_stored_points_is_noticed(name: str) -> None:
    damage, words = DAMAGE[name]
    with pytest.raises(AssertionError, match=words):
        compare(damage(rows()))


BUCKET = 40  # steps


def reduce(curve: Curve) -> dict[str, Any]:
    """A faithful reduction: first, last, lowest, highest, first and last NaN of each bucket."""
    picked: dict[int, tuple[float, float]] = {}
    steps = list(curve)
    for start in range(0, len(steps), BUCKET):
        bucket = steps[start : start + BUCKET]
        known = [step for step in bucket if not math.isnan(curve[step])]
        missing = [step for step in bucket if math.isnan(curve[step])]
        order = sorted(known, key=lambda step: curve[step])
        for part in (known, missing, order):
            bounds = (curve[order[0]], curve[order[-1]]) if order else (math.nan, math.nan)
            picked |= {step: bounds for step in (*part[:1], *part[-1:])}
    return shape(curve, dict(sorted(picked.items())))


def full(curve: Curve) -> dict[str, Any]:
    """The curve as it is."""
    return shape(curve, {step: (value, value) for step, value in curve.items()})


def shape(curve: Curve, picked: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """What `/series` answers: the picked steps with the bounds of their buckets."""
    return {
        "x": list(picked),
        "y": [number_encode(curve[step]) for step in picked],
        "min": [number_encode(low) for low, _ in picked.values()],
        "max": [number_encode(high) for _, high in picked.values()],
        "total": len(curve),
        "nan": sum(map(math.isnan, curve.values())),
        "nan_x": [step for step in picked if math.isnan(curve[step])],
        "reduced": len(picked) < len(curve),
    }


CURVE = SCRIPT.curves()[KEY]
MIDDLE = list(CURVE)[len(CURVE) // 2]


def test_faithful_answers_pass() -> None:
    assert_full("it", full(CURVE), CURVE)
    assert_reduced("it", reduce(CURVE), CURVE, len(CURVE) - 1)


def spiked(to: float) -> Curve:
    return {**CURVE, MIDDLE: to}


def without(step: int) -> Curve:
    return {at: value for at, value in CURVE.items() if at != step}


SHOWN: dict[str, tuple[Curve, str]] = {
    "a step is missing": (without(MIDDLE), "steps of"),
    "the last step is missing": (without(max(CURVE)), "steps of"),
    "a step is there that was never logged": ({**CURVE, max(CURVE) + 1: 0.5}, "steps of"),
    "a value is another one": (spiked(0.125), "shows"),
    "a value is missing": (spiked(math.nan), "shows"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_damage_to_a_full_answer_is_noticed(name: str) -> None:
    curve, words = SHOWN[name]
    with pytest.raises(AssertionError, match=words):
        assert_full("it", full(curve), CURVE)


def test_a_count_that_is_wrong_is_noticed() -> None:
    for name in ("total", "nan"):
        shown = full(CURVE)
        shown[name] += 1
        with pytest.raises(AssertionError, match="counts"):
            assert_full("it", shown, CURVE)
    shown = full(CURVE)
    shown["nan_x"].pop(1)
    with pytest.raises(AssertionError, match="places"):
        assert_full("it", shown, CURVE)


def test_a_spike_that_a_reduced_answer_hides_is_noticed() -> None:
    calm = dict.fromkeys(CURVE, 0.5)
    for spike in (1e9, -1e9, math.inf):
        with pytest.raises(AssertionError, match="hides"):
            assert_reduced("it", reduce(calm), {**calm, MIDDLE: spike}, len(CURVE) - 1)


@pytest.mark.parametrize("cut", [slice(1, None), slice(None, -1)], ids=["first", "last"])
@pytest.mark.parametrize("names", [("x", "y", "min", "max"), ("nan_x",)], ids=["point", "NaN"])
def test_ends_that_a_reduced_answer_leaves_out_are_noticed(
    names: tuple[str, ...], cut: slice
) -> None:
    shown = reduce(CURVE)
    shown |= {name: shown[name][cut] for name in names}
    with pytest.raises(AssertionError, match=r"ends of|places"):
        assert_reduced("it", shown, CURVE, len(CURVE) - 1)


def test_a_reduced_answer_that_is_too_long_or_out_of_order_is_noticed() -> None:
    shown = reduce(CURVE)
    with pytest.raises(AssertionError):
        assert_reduced("it", shown, CURVE, len(shown["x"]) - 1)
    shown["x"][3], shown["x"][4] = shown["x"][4], shown["x"][3]
    with pytest.raises(AssertionError, match="order of"):
        assert_reduced("it", shown, CURVE, len(CURVE) - 1)
