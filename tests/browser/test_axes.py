"""Axes and gaps of charts, without a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_modules import LOOK, call, cursor, delta, drawn, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("span", "unit"), [([0, 5], "s"), ([0, 200], "min"), ([7, 20_000], "h"), ([0, 1e6], "d")]
)
def test_relative_times_have_a_unit_that_fits(
    module_page: Page, span: list[float], unit: str
) -> None:
    assert call(module_page, "axis.js", "unitOf", span)[1] == unit


@pytest.mark.parametrize("axis", ["step", "time", "relative", "tokens"])
def test_a_place_on_an_axis_leads_back_to_its_value(module_page: Page, axis: str) -> None:
    since = {"origin": 1_790_000_000, "unit": [60, "min"]}
    value = 1_790_000_090
    [place] = call(module_page, "axis.js", "places", [value], axis, since)
    if axis == "relative":
        assert place == 1.5
    if axis == "time":  # Plotly answers with local text
        text = "(place) => new Date(place).toISOString().replace('T', ' ').replace('Z', '')"
        place = module_page.evaluate(text, place)
    assert call(module_page, "axis.js", "valueAt", place, axis, since) == value


def test_a_line_breaks_where_steps_are_missing(module_page: Page) -> None:
    x = [*range(1, 21), *range(100, 121)]
    built = traced(module_page, x, [1.0] * len(x))
    line = built["data"][0]
    assert line["y"].count(None) == 1
    assert line["x"][line["y"].index(None)] == 20
    assert len(built["data"]) == 1


def test_even_spacing_is_no_gap_however_wide(module_page: Page) -> None:
    assert None not in traced(module_page, [s * 500 for s in range(30)], [1.0] * 30)["data"][0]["y"]


def test_a_slow_step_is_no_gap_on_the_time_axis(module_page: Page) -> None:
    x = [*range(1000), 1012, *range(1013, 2000)]
    assert None not in traced(module_page, x, [1.0] * len(x), axis="relative")["data"][0]["y"]
    x = [*range(1000), *range(1500, 2000)]
    assert traced(module_page, x, [1.0] * len(x), axis="relative")["data"][0]["y"].count(None) == 1


def test_a_point_between_breaks_is_not_lost(module_page: Page) -> None:
    x = [*range(1, 21), 60, *range(100, 121)]
    line, alone = traced(module_page, x, [float(s) for s in x])["data"]
    assert line["y"].count(None) == 2
    assert (alone["mode"], alone["x"], alone["y"]) == ("markers", [60], [60])
    _, alone, _ = drawn(module_page, [1, 1, "NaN", 7, "NaN", 2, 2])["data"]
    assert (alone["x"], alone["y"]) == ([4], [7])


def test_the_marks_of_nan_stay_at_their_places(module_page: Page) -> None:
    x = [*range(1, 21), *range(100, 121)]
    y: list[Any] = [1.0] * len(x)
    y[3] = y[25] = "NaN"
    marks = traced(module_page, x, y)["data"][-1]
    assert (marks["x"], marks["yaxis"]) == ([4, 105], "y2")


def test_the_reduction_itself_is_no_gap(module_page: Page) -> None:
    """Of a bucket's points only some are kept: their uneven distances say nothing."""
    shape = {"x": [], "y": [], "total": 1_000_000, "nan": 0, "reduced": True}
    for bucket in range(200):
        shape["x"] += [bucket * 5000, bucket * 5000 + 3, bucket * 5000 + 4900, bucket * 5000 + 4999]
    shape["y"] = [1.0] * len(shape["x"])
    curve = call(module_page, "series.js", "curve", shape)
    width = call(module_page, "gaps.js", "gapWidth", shape["x"], {"grain": curve["grain"]})
    assert call(module_page, "gaps.js", "gapsOf", shape["x"], width) == []
    holed = [x for x in shape["x"] if not 400_000 <= x < 450_000]
    assert len(call(module_page, "gaps.js", "gapsOf", holed, width)) == 1


def test_values_that_are_not_a_number_are_counted(module_page: Page) -> None:
    before = snapshot([1, 2], [0.5, 0.4], 2)
    news = delta(2, 5, [3, "NaN", 9.0], [4, "NaN", 9.1], [5, 0.1, 9.2])
    grown = call(module_page, "series.js", "extend", before, news)
    assert grown["curves"]["loss"]["nan"] == 2
    again = {
        "after": cursor(2),
        "upto": cursor(6),
        "points": {"loss": [[1, "NaN", 9], [1, 0.3, 9]]},
    }
    assert call(module_page, "series.js", "extend", before, again)["curves"]["loss"]["nan"] == 0


def traced(page: Page, x: list[float], y: list[Any], axis: str = "step") -> Any:
    values = "[" + ",".join(str(value) for value in y) + "]"
    return page.evaluate(
        f"""async ([x, look, axis]) => {{
          const {{ traces }} = await import("/js/traces.js");
          const curve = {{ x, y: {values}, total: x.length, reduced: false, grain: 0, newest: null }};
          const since = {{ origin: 0, unit: [1, "s"] }};
          const found = traces(["loss"], {{ loss: curve }}, look, {{ axis, since, smoothing: 0 }});
          return JSON.parse(JSON.stringify(found));
        }}""",
        [x, LOOK, axis],
    )
