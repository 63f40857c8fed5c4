"""The figure of ratings, without a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FIGURE = """async ([rows, width]) => {
  const { ratingFigure } = await import("/js/ratings_chart.js");
  return ratingFigure(rows, { series: ["blue"] }, width);
}"""
ROWS = [
    {"arm": "<b>best</b> of all of them, by far", "rating": 1100.0, "interval": [1050.0, 1180.0]},
    {"arm": "rest", "rating": 900.0, "interval": [820.0, 950.0]},
]


def figure(page: Page, width: int = 800) -> Any:
    return page.evaluate(FIGURE, [ROWS, width])


def test_the_best_stands_on_top_with_its_interval(module_page: Page) -> None:
    (trace,) = figure(module_page)["data"]
    assert (trace["x"], trace["y"]) == ([900, 1100], [0, 1])
    assert trace["error_x"]["array"] == [50, 80] and trace["error_x"]["arrayminus"] == [80, 50]


def test_names_are_escaped_and_cut_where_it_is_narrow(module_page: Page) -> None:
    wide, narrow = (
        figure(module_page, width)["layout"]["yaxis"]["ticktext"][1] for width in (800, 320)
    )
    assert wide == "&lt;b>best&lt;/b> of all of the…"
    assert narrow == "&lt;b>best&lt;/b> of…"
