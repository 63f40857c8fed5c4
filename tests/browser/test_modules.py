"""The JavaScript that decides what a chart shows, without a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

# JSON has no NaN: the page writes it as text.
CALL = """async ([file, name, values]) => {
  const module = await import(`/js/${file}`);
  const found = module[name](...values);
  const told = (key, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
  return JSON.parse(JSON.stringify(found === undefined ? null : found, told));
}"""


def call(page: Page, file: str, name: str, *values: Any) -> Any:
    """What an exported function answers."""
    return page.evaluate(CALL, [file, name, list(values)])


def cursor(seq: int, attempt: int = 1) -> dict[str, int]:
    return {"attempt": attempt, "seq": seq}


def snapshot(steps: list[int], values: list[float], seq: int) -> dict[str, Any]:
    curve = {"x": steps, "y": values, "total": len(steps), "reduced": False, "newest": None}
    return {"upto": cursor(seq), "curves": {"loss": curve}}


def delta(after: int, upto: int, *points: list[Any], **words: Any) -> dict[str, Any]:
    return {"after": cursor(after), "upto": cursor(upto), "points": {"loss": list(points)}, **words}


def test_a_delta_makes_a_curve_longer(module_page: Page) -> None:
    grown = call(
        module_page,
        "series.js",
        "extend",
        snapshot([1, 2], [0.5, 0.4], 2),
        delta(2, 3, [3, 0.3, 9.0]),
    )
    assert grown["upto"] == cursor(3)
    assert grown["curves"]["loss"]["x"] == [1, 2, 3]
    assert grown["curves"]["loss"]["y"] == [0.5, 0.4, 0.3]
    assert grown["curves"]["loss"]["total"] == 3
    assert grown["curves"]["loss"]["newest"] == {"step": 3, "time": 9.0}


def test_each_metric_is_asked_for_by_a_parameter_of_its_own(module_page: Page) -> None:
    words = """async () => {
      const { keysQuery } = await import("/js/series.js");
      return keysQuery(["recall@1,5", "loss"], { x: "step" }).toString();
    }"""
    assert module_page.evaluate(words) == "x=step&key=recall%401%2C5&key=loss"


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_delta_that_does_not_fit_is_a_gap(module_page: Page, after: int) -> None:
    before = snapshot([1, 2], [0.5, 0.4], 2)
    assert call(module_page, "series.js", "extend", before, delta(after, 9, [3, 0.3, 9.0])) is None


def test_a_step_logged_again_supersedes_the_older_point(module_page: Page) -> None:
    before = snapshot([1, 2, 3], [0.5, 0.4, 0.3], 3)
    again = {
        "after": cursor(3),
        "upto": cursor(2, attempt=2),
        "points": {"loss": [[2, 0.7, 9.0], [3, 0.6, 10.0]]},
    }
    grown = call(module_page, "series.js", "extend", before, again)["curves"]["loss"]
    assert (grown["x"], grown["y"], grown["total"]) == ([1, 2, 3], [0.5, 0.7, 0.6], 3)
    assert call(module_page, "series.js", "extend", before, again, "time") is None


def test_values_that_are_no_numbers_survive(module_page: Page) -> None:
    before = snapshot([1], [0.5], 1)
    news = delta(1, 4, [2, "NaN", 9.0], [3, "Infinity", 9.1], [4, "-Infinity", 9.2])
    grown = call(module_page, "series.js", "extend", before, news)["curves"]["loss"]
    assert grown["y"] == [0.5, "NaN", "Infinity", "-Infinity"]


def test_a_curve_that_grew_too_long_is_fetched_again(module_page: Page) -> None:
    before = snapshot(list(range(6000)), [0.0] * 6000, 6000)
    assert (
        call(module_page, "series.js", "extend", before, delta(6000, 6001, [6000, 0.0, 1.0]))
        is None
    )


def test_tokens_are_never_guessed(module_page: Page) -> None:
    before = snapshot([1], [0.5], 1)
    assert (
        call(module_page, "series.js", "extend", before, delta(1, 2, [2, 0.4, 9.0]), "tokens")
        is None
    )


def test_smoothing_has_no_start_bias_and_keeps_gaps(module_page: Page) -> None:
    assert call(module_page, "smooth.js", "smooth", [2.0, 2.0, 2.0], 0.9) == pytest.approx(
        [2, 2, 2]
    )
    assert call(module_page, "smooth.js", "smooth", [1.0, 3.0], 0.5) == pytest.approx([1, 7 / 3])
    smoothed = call(module_page, "smooth.js", "smooth", [1.0, None, 1.0], 0.5)
    assert (smoothed[0], smoothed[1]) == (1, "NaN") and smoothed[2] == pytest.approx(1)


LOOK = {"series": ["#001", "#002"], "bad": "#f00", "mono": "monospace"}


def drawn(page: Page, y: list[Any], **options: Any) -> Any:
    values = "[" + ",".join(str(value) for value in y) + "]"
    return page.evaluate(
        f"""async ([look, options]) => {{
          const {{ traces }} = await import("/js/traces.js");
          const y = {values};
          const curve = {{ x: y.map((_, at) => at + 1), y, total: y.length, reduced: false, newest: null }};
          const found = traces(["loss"], {{ loss: curve }}, look, {{ axis: "step", smoothing: 0, ...options }});
          return JSON.parse(JSON.stringify(found));
        }}""",
        [LOOK, options],
    )


def test_nan_and_infinity_stand_as_ticks_on_the_axis(module_page: Page) -> None:
    built = drawn(module_page, [1, "NaN", "Infinity", 2])
    line, alone, ticks = built["data"]
    assert line["y"] == [1, None, None, 2]
    assert (alone["x"], alone["mode"]) == ([1, 4], "markers")
    assert (ticks["x"], ticks["y"], ticks["yaxis"]) == ([2, 3], [0, 1], "y2")
    assert ticks["text"] == ["NaN", "∞"]


def test_the_raw_line_stays_under_the_smoothed_one(module_page: Page) -> None:
    built = drawn(module_page, [1, 9, 1], smoothing=0.9)
    assert [trace["line"]["width"] for trace in built["data"]] == [1, 2]
    assert built["data"][0]["y"] == [1, 9, 1]


def test_a_zoom_keeps_one_point_beyond_each_end(module_page: Page) -> None:
    built = drawn(module_page, [1, 2, 3, 4, 5, 6], range=[2.5, 4.5])
    assert built["data"][0]["x"] == [2, 3, 4, 5]


def test_a_single_point_can_be_seen(module_page: Page) -> None:
    assert drawn(module_page, [1])["data"][0]["mode"] == "markers"


def test_a_curve_that_does_not_move_is_not_magnified(module_page: Page) -> None:
    low, high = drawn(module_page, [0.98, 0.98 + 1e-16, 0.98])["range"]
    assert high - low > 0.1


@pytest.mark.parametrize(
    ("value", "bounds", "level"),
    [
        (0.2, {"warnAbove": "0.5"}, "good"),
        (0.6, {"warnAbove": "0.5", "badAbove": "0.9"}, "warning"),
        (0.95, {"warnAbove": "0.5", "badAbove": "0.9"}, "bad"),
        (0.01, {"warnBelow": "0.05", "badBelow": ""}, "warning"),
    ],
)
def test_a_tile_judges_by_its_bounds(
    module_page: Page, value: float, bounds: dict[str, str], level: str
) -> None:
    assert call(module_page, "tiles.js", "judge", value, bounds) == level


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.5, "0.500"),
        (1234567, "1 234 567"),
        (12345.6, "12 346"),
        (-0.25, "−0.250"),
        (0.0000012, "1.20e-6"),
        ("NaN", "NaN"),
    ],
)
def test_numbers_look_as_the_server_writes_them(module_page: Page, value: Any, text: str) -> None:
    shown = call(module_page, "format.js", "figure", value)
    assert shown.replace("\u2009", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (979, "979"),
        (123_456, "123 456"),
        (999_949, "999 949"),
        (999_960, "1M"),
        (512_000_000, "512M"),
        (-256_307_200, "−256M"),
        (999_999_999, "1G"),
        (1.5e12, "1.50T"),
        (2e16, "2.00e16"),
        (0.25, "0.250"),
        ("NaN", "NaN"),
    ],
)
def test_the_label_of_a_last_value_is_short(module_page: Page, value: Any, text: str) -> None:
    shown = call(module_page, "format.js", "shortFigure", value)
    assert shown == text.replace(" ", "\u2009")


def test_a_forks_parent_is_a_faint_dashed_line_and_joins_the_child(module_page: Page) -> None:
    before = {"loss": [{"name": "parent", "curve": {"x": [-2, -1, 0], "y": [3, 2, 1]}}]}
    built = drawn(module_page, [1, 0.5], before=before)
    past, line = built["data"]
    assert (past["x"], past["y"], past["name"]) == ([-2, -1, 0], [3, 2, 1], "parent")
    assert (past["line"]["dash"], past["opacity"] < 1, past["meta"]) == ("dash", True, "ancestor")
    assert past["line"]["color"] == line["line"]["color"]
    assert [one["mode"] for one in drawn(module_page, [1, 2])["data"]] == ["lines"]


def test_segments_are_sorted_by_metric_without_empty_ones(module_page: Page) -> None:
    full = {"x": [0], "y": ["NaN"], "total": 1, "nan": 1, "reduced": False}
    segments = [{"name": "p", "curves": {"a": full, "b": {**full, "x": [], "y": []}}}]
    found = call(module_page, "lineage.js", "byKey", ["a", "b", "c"], segments)
    assert [(key, len(value)) for key, value in found.items()] == [("a", 1), ("b", 0), ("c", 0)]
    assert found["a"][0]["curve"]["y"] == ["NaN"]
