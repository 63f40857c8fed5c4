"""The card of the execution plan in a browser: what the server really sends, drawn by the real modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly
import pytest
from django.template.loader import render_to_string
from django.urls import reverse

from orchestrator.models import Run
from orchestrator.selectors import plan
from orchestrator.selectors.plan_estimate import Estimate
from orchestrator.selectors.plan_lines import Span, StepLine
from orchestrator.selectors.run_words import PHASES
from tests.browser.conftest import HOST, STATIC

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
STYLES = ("tokens", "app", "run", "plan")
START = """
import("/js/plan_view.js").then(({ planView }) => {
  window.card = planView(document.querySelector("[data-plan]"));
});
"""
LABELS = "document.querySelectorAll('.plan .ytick text')"


class Served:
    """The card of a run on a page of its own; `status` and `lines` are what its server answers with."""

    def __init__(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.status = page, 200
        self.lines: list[StepLine] = []
        self.complaints: list[str] = []
        run = Run(id="abcdefghijkl", state="running", spec={"kind": "train"}, latest={})
        self.url = reverse("run-plan", args=[run.pk])
        # What the database would tell: a server's loop runs in this thread, and the ORM refuses beside it.
        monkeypatch.setattr(plan, "lines_read", lambda run: self.lines)
        monkeypatch.setattr(plan, "starts_of", lambda runs: {})
        estimates = {"rollout": Estimate(5.0, "from 3 earlier runs")}
        monkeypatch.setattr(plan, "estimates_of", lambda run, start: estimates)
        self.run = run
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.route(f"{HOST}/**", self._answer)
        head = "".join(f'<link rel="stylesheet" href="/css/{name}.css">' for name in STYLES)
        card = render_to_string("run/plan.html", {"shape": {"id": run.pk}})
        self.whole = (
            f'<!doctype html><meta charset="utf-8">{head}<script src="/plotly.js"></script>'
            f'<body style="padding: 12px">{card}'
        )

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(HOST)
        if path == self.url:
            body = render_to_string("run/part_plan.html", plan.plan_page(self.run))
            route.fulfill(status=self.status, body=body, content_type="text/html; charset=utf-8")
        elif path == "/plotly.js":
            route.fulfill(body=PLOTLY.read_bytes(), content_type="text/javascript")
        elif path == "/card":
            route.fulfill(body=self.whole, content_type="text/html")
        else:
            route.fallback()

    def step(self, step: int, *parts: tuple[str, float]) -> None:
        """Another step was recorded."""
        spans, at = [], 0.0
        for phase, seconds in parts:
            spans.append(Span(phase, at, at + seconds))
            at += seconds
        self.lines.append(StepLine(1, "trainer", step, 1, 100.0 * step, tuple(spans)))

    def open(self) -> None:
        self.page.goto(f"{HOST}/card")
        self.page.evaluate(START)

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(condition, timeout=10_000)


@pytest.fixture
def served(module_page: Page, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Served(module_page, monkeypatch)
    yield made
    assert made.complaints == []


USUAL = (("rollout", 6.0), ("reward", 1.0), ("update", 3.0))


@pytest.mark.slow
def test_it_draws_what_came_and_goes_on_by_itself(served: Served) -> None:
    page = served.page
    page.set_viewport_size({"width": 1440, "height": 900})
    served.open()
    served.wait("document.querySelector('.plan-none')")
    assert "with the first step" in page.locator(".plan").inner_text()
    assert page.locator("[data-plan-plot]").is_hidden()

    for step in (1, 2, 3):
        served.step(step, *USUAL)
    page.evaluate("card.refresh()")
    served.wait(f"{LABELS}.length === 4")
    names = page.evaluate(f"[...{LABELS}].map((one) => one.textContent.trim())")
    assert sorted(names) == ["1", "2", "3", "estimate"]
    # Three phases of three steps, and one of them estimated.
    assert page.locator(".plan .bars .point").count() == 3 * 3 + 1
    assert "Rollout is the bottleneck: 60 %" in page.locator(".plan-said").inner_text()
    assert "from 3 earlier runs" in page.locator(".plan-phases").inner_text()

    page.locator(".plan-steps summary").click()
    served.step(4, ("update", 9.0))
    page.evaluate("card.refresh()")
    served.wait(f"{LABELS}.length === 5")
    assert page.locator(".plan-steps[open]").count() == 1, "what was opened stays open"
    assert "9.00" in page.locator(".plan-steps").inner_text(), "and is as new as the bars"
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"

    page.set_viewport_size({"width": 390, "height": 800})
    # Nothing reaches beyond a narrow window, once it has been drawn again.
    served.wait("document.documentElement.scrollWidth <= 390")


@pytest.mark.slow
def test_a_server_that_fails_is_told_and_asked_again(served: Served) -> None:
    page = served.page
    served.step(1, *USUAL)
    served.status = 500
    served.open()
    served.wait("!document.querySelector('[data-plan-problem]').hidden")
    problem = page.locator("[data-plan-problem]")
    assert "The plan did not come: the server answered 500." in problem.inner_text()
    served.status = 200
    problem.get_by_role("button", name="Try again").click()
    served.wait(f"{LABELS}.length === 2")
    assert problem.is_hidden()


FIGURE = """async (plan) => {
  const { planFigure } = await import("/js/plan_chart.js");
  const series = [1, 2, 3, 4, 5, 6, 7, 8].map(String);
  const look = { series, faint: "f", strong: "s", line: "l", ink: "i", surface: "w" };
  const { data, layout } = planFigure(plan, look);
  const bar = (trace) => (row, at) => [row, trace.name, trace.base[at], trace.x[at], trace.marker.color];
  return {
    bars: data.flatMap((trace) => trace.y.map(bar(trace))),
    range: layout.xaxis.range,
    rows: layout.yaxis.categoryarray,
    notes: layout.annotations.map((one) => one.text),
  };
}"""


def line(
    process: str, step: int, start: float, *parts: tuple[str, float, float], steps: int = 1
) -> Any:
    found = [{"phase": phase, "start": a, "end": b} for phase, a, b in parts]
    return {"process": process, "step": step, "steps": steps, "start": start, "spans": found}


def figure(page: Page, lines: list[Any], estimates: dict[str, float | None], *more: str) -> Any:
    shown = {
        "lines": lines,
        "phases": [{"phase": name, "estimated_s": value} for name, value in estimates.items()],
        "processes": ["trainer", *more],
        "labels": {"update": "Update"},
        "seldom": ["eval", "checkpoint"],
    }
    return page.evaluate(FIGURE, shown)


def test_processes_count_from_where_the_trainer_began_the_step(module_page: Page) -> None:
    lines = [
        line("trainer", 4, 100.0, ("wait", 0, 1), ("update", 1, 3)),
        line("generator 0", 4, 98.5, ("rollout", 0, 2)),
    ]
    found = figure(module_page, lines, {}, "generator 0")
    assert found["rows"] == ["4 · trainer", "4 · generator 0"]
    assert ["4 · generator 0", "rollout", -1.5, 2, "2"] in found["bars"]
    assert found["range"][0] == -1.5 and found["range"][1] >= 3


def test_an_estimate_is_an_outline_and_leaves_out_what_is_not_in_every_step(
    module_page: Page,
) -> None:
    lines = [
        line("trainer", 4, 0.0, ("update", 0, 2)),
        line("trainer", 4, 2.0, ("eval", 0, 1), steps=0),
    ]
    found = figure(module_page, lines, {"update": 1.5, "reward": None, "eval": 9.0})
    assert found["rows"] == ["estimate", "4", "end"]
    assert [bar for bar in found["bars"] if bar[0] == "estimate"] == [
        ["estimate", "Update", 0, 1.5, "rgba(0,0,0,0)"]
    ]


def test_an_estimate_far_beyond_the_measured_is_cut_and_told(module_page: Page) -> None:
    found = figure(module_page, [line("trainer", 1, 0.0, ("update", 0, 2))], {"update": 40.0})
    assert found["range"][1] == pytest.approx(3 * 1.02)
    assert found["notes"] == ["to 40 s →"]


def test_a_step_far_longer_than_usual_is_cut_and_told(module_page: Page) -> None:
    lines = [line("trainer", step, 0.0, ("update", 0, 1)) for step in range(1, 6)]
    lines.append(line("trainer", 6, 0.0, ("eval", 0, 60), ("update", 60, 61)))
    found = figure(module_page, lines, {})
    assert found["range"][1] == pytest.approx(4 * 1.02) and found["notes"] == ["to 1 min 1 s →"]
    twice = figure(module_page, [*lines[:5], line("trainer", 6, 0.0, ("update", 0, 2))], {})
    assert twice["range"][1] == pytest.approx(2 * 1.02) and twice["notes"] == []


def test_the_colours_are_those_of_the_chart_of_the_time_in_a_step(module_page: Page) -> None:
    css = (STATIC / "css" / "plan.css").read_text()
    parts = [(phase, float(n), n + 1.0) for n, phase in enumerate(PHASES)]
    found = figure(module_page, [line("trainer", 1, 0.0, *parts)], {})
    colours = [bar[4] for bar in sorted(found["bars"], key=lambda bar: bar[2])]
    assert colours == [*"12345678", "s", "rgba(0,0,0,0)"], "a wait is hatched"
    for place, phase in enumerate(PHASES[:8], start=1):
        assert f'[data-phase="{phase}"] {{ background: var(--series-{place}); }}' in css
