"""Charts and truth panel in a browser: a million points, NaN, infinities, gaps, resumed attempts, late lines."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.browser import seeded
from tests.browser.served import Served
from tests.browser.test_demo import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHART = ".chart[data-status=drawn]"
BADGE = f"document.querySelector('{CHART} [data-reduced]')"
PLOT = f"document.querySelector('{CHART} [data-plot]')"


@pytest.fixture(scope="module")
def seed() -> Iterator[Callable[..., Any]]:
    """The product with seeded runs: `seed.runs`, `seed.up`, and `seed(...)` to push more lines."""
    with Served("--slots", "1") as up:
        env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        env |= {
            "ANNEAL_DATA_DIR": str(up.folder / "var"),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        }

        def call(*words: Any) -> str:
            command = [sys.executable, "-m", "tests.browser.seeded", *map(str, words)]
            done = subprocess.run(
                command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout

        call.up = up  # type: ignore[attr-defined]
        call.runs = json.loads(call().splitlines()[-1])  # type: ignore[attr-defined]
        yield call


@pytest.fixture(scope="module")
def window(chromium: Browser, seed: Any) -> Iterator[Page]:
    """A browser window, signed in by the one-time link."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(seed.up.link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/runs/")
    yield page
    context.close()


@pytest.fixture
def page(window: Page) -> Iterator[Page]:
    """The window; what the browser complained about fails the test."""
    found: list[str] = []
    window.set_viewport_size({"width": 1440, "height": 900})

    def heard(message: Any) -> None:
        # One test takes the network away.
        if message.type == "error" and "ERR_INTERNET_DISCONNECTED" not in message.text:
            found.append(message.text)

    def failed(error: Any) -> None:
        found.append(str(error))

    window.on("console", heard)
    window.on("pageerror", failed)
    yield window
    window.remove_listener("console", heard)
    window.remove_listener("pageerror", failed)
    assert found == []


def figure(page: Page, name: str) -> str:
    """The text of one figure of the truth panel."""
    return page.locator(f'[data-figure="{name}"]').inner_text().replace("\u2009", "")


# The live run first: nobody speaks for it, so the sweep will call it lost before long.
def test_the_panel_says_what_arrived_and_what_waits(page: Page, seed: Any) -> None:
    page.goto(f"{seed.up.url}/runs/{seed.runs['live']}/truth/")
    assert figure(page, "trainer Received, lines") == "1 – 30"
    missing = figure(page, "trainer Missing, lines").split(None, 1)
    assert missing == ["25", "31 – 55, on their way"]
    assert figure(page, "trainer Duplicated, lines") == "10"
    assert figure(page, "trainer Came too early, lines") == "10"
    assert figure(page, "trainer Pushes refused") == "1"
    assert figure(page, "trainer Spool depth, lines") == "25"
    assert figure(page, "beat Clock of the node").startswith("+3.20 s")
    assert "dance" in page.locator(".truth .message").inner_text()
    verdict = page.locator(".verdict")
    assert verdict.get_attribute("data-level") == "warning", "a push was refused"
    assert "1 push was refused as faulty" in verdict.inner_text()
    assert figure(page, "state Process").split("\n")[-1] == "its trainer is at work"
    assert figure(page, "beat Overdue") == "no"


def test_the_panel_goes_on_by_itself_and_leaves_an_open_help_text_alone(
    page: Page, seed: Any
) -> None:
    name = page.locator("dt", has_text="Received, lines").first
    name.focus()
    page.evaluate("document.activeElement.dataset.same = 'yes'")
    assert "so there is no hole below this number" in name.locator(".tip").inner_text()
    seed("push", seed.runs["live"], 31, 60)
    received = "document.querySelector('[data-figure=\"trainer Received, lines\"]').textContent"
    until(page, f"{received} === '1 – 60'", 20)
    assert page.evaluate("document.activeElement.dataset.same") == "yes"


def test_a_server_that_does_not_answer_is_said(page: Page, seed: Any) -> None:
    page.context.set_offline(True)
    until(page, "'failed' in document.querySelector('[data-truth]').dataset", 20)
    note = page.locator("[data-truth-note]").inner_text()
    assert re.match(r"These figures are .+ old: the server does not answer\.", note)
    assert figure(page, "trainer Received, lines") == "1 – 60", "the figures stay"
    page.context.set_offline(False)
    until(page, "!('failed' in document.querySelector('[data-truth]').dataset)", 20)


def test_a_server_that_takes_its_time_is_said_too(page: Page, seed: Any) -> None:
    note = "document.querySelector('[data-truth-note]').textContent"
    page.route("**/truth-part/**", lambda route: None)
    until(page, f"{note} === 'Asking the server…'", 20)
    assert page.locator("[data-truth-figures]").get_attribute("aria-busy") == "true"
    until(page, f"{note}.endsWith('the server does not answer.')", 20)
    until(page, f"{note}.endsWith('old: asking the server again…')", 20)
    page.unroute("**/truth-part/**")
    until(page, f"{note} === 'Asked again every 2 s.'", 20)


def test_a_silent_ship_leaves_no_claim_that_nothing_is_missing(page: Page, seed: Any) -> None:
    """Nobody beats for the seeded run: after 15 s of silence its figures are those of a moment ago."""
    page.goto(f"{seed.up.url}/runs/{seed.runs['live']}/truth/")
    verdict = "document.querySelector('.verdict').textContent"
    until(page, f"{verdict}.startsWith('Ship has been silent for ')", 30)
    assert "waits in the journals at the node" in page.locator(".verdict").inner_text()
    assert figure(page, "trainer Missing, lines").split(None, 1) == ["0", "known; ship is silent"]
    assert "as of " in figure(page, "trainer Spool depth, lines")
    page.goto("about:blank")


def test_a_run_without_an_attempt_has_an_empty_state(page: Page, seed: Any) -> None:
    page.goto(f"{seed.up.url}/runs/{seed.runs['new']}/truth/")
    assert page.get_by_role("heading", name="No attempt yet").last.is_visible()
    assert "Paused: no attempt is under way" in figure(page, "why")


def test_the_badge_says_how_many_points_became_how_many(page: Page, seed: Any) -> None:
    open_chart(page, seed, "long", "?smooth=0")
    stored, shown = badge(page)
    assert stored == seeded.POINTS and shown <= 1500
    assert page.locator(f"{CHART} [data-nan]").first.inner_text() == "3 NaN"


def test_no_spike_nan_infinity_or_gap_is_hidden(page: Page) -> None:
    lines = page.evaluate(f"{PLOT}.data.map(({{ x, y, text, mode }}) => ({{ x, y, text, mode }}))")
    line = lines[0]
    assert max(value for value in line["y"] if math.isfinite(value)) == 9.5
    marks = next(trace for trace in lines if trace["text"])
    placed = dict(zip(marks["x"], marks["text"], strict=True))
    words = {"Infinity": "∞", "-Infinity": "−∞"}
    known = {step: words[value] for step, value in seeded.INFINITE.items()}
    assert placed == {step: "NaN" for step in seeded.NAN_STEPS} | known
    breaks = [x for x, y in zip(line["x"], line["y"], strict=True) if math.isnan(y)]
    assert seeded.GAP[0] - 1 in breaks, "the line ends where the gap begins"
    drawn = [x for x, y in zip(line["x"], line["y"], strict=True) if not math.isnan(y)]
    assert not [x for x in drawn if seeded.GAP[0] <= x <= seeded.GAP[1]]


def test_a_zoom_fetches_the_raw_detail(page: Page) -> None:
    page.wait_for_timeout(300)
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.url) if "/series" in request.url else None
    )
    drag(page, 0.3, 0.36)
    until(page, f"{BADGE}.textContent.length && !{BADGE}.textContent.startsWith('1\\u2009000')", 20)
    stored, shown = badge(page)
    assert 30_000 < stored < 100_000 and shown <= 1500
    assert "from=" in asked[-1] and "from=" in page.url
    drag(page, 0.45, 0.5)
    until(page, f"{BADGE}.textContent.startsWith('3\\u2009')", 20)
    drag(page, 0.4, 0.6)
    until(page, f"{BADGE}.hidden", 20)
    steps = [x for x in page.evaluate(f"{PLOT}.data[0].x")]
    assert len(steps) > 100 and steps == list(range(int(steps[0]), int(steps[-1]) + 1)), "raw"
    page.get_by_role("button", name="Whole run").click()
    until(page, f"!{BADGE}.hidden && {BADGE}.textContent.startsWith('1\\u2009000\\u2009000')", 20)


@pytest.mark.parametrize("axis", ["step", "time", "relative", "tokens"])
def test_every_axis_draws_both_attempts(page: Page, seed: Any, axis: str) -> None:
    open_chart(page, seed, "resumed", f"?x={axis}&smooth=0")
    assert page.locator(f'[data-axis="{axis}"]').get_attribute("aria-pressed") == "true"
    line = page.evaluate(f"{PLOT}.data[0]")
    if axis == "step":
        assert [line["x"][0], line["x"][-1]] == [1, 599]
        assert line["y"][line["x"].index(250)] == 2.0 - 250 / 400, "the newer attempt counts"
    if axis == "tokens":
        assert line["x"][-1] == 59_900
    if axis == "relative":
        assert line["x"][0] == pytest.approx(1 / 60)
        assert line["x"][-1] == pytest.approx((seeded.PAUSE + 401) / 60)
    if axis in ("time", "relative"):
        places = [at for at, value in enumerate(line["y"]) if math.isnan(value)]
        assert len(places) == 2, "the pause between the attempts, and the NaN"


def test_a_zoom_on_relative_time_is_one_on_time(page: Page, seed: Any) -> None:
    open_chart(page, seed, "long", "?x=relative&smooth=0")
    whole = badge(page)[0]
    drag(page, 0.2, 0.4)
    until(page, f"{BADGE}.hidden || !{BADGE}.textContent.startsWith('1\\u2009000')", 20)
    part = badge(page)[0]
    assert 0.1 * whole < part < 0.35 * whole
    low, high = page.evaluate(f"{PLOT}.layout.xaxis.range")
    assert page.evaluate(f"{PLOT}.layout.xaxis.ticksuffix") == " min"
    whole_minutes = (seeded.POINTS + 50_000) * 0.01 / 60
    assert [low / whole_minutes, high / whole_minutes] == pytest.approx([0.2, 0.4], abs=0.03)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["truth/", "?smooth=0", "?x=relative", "metrics/"])
def test_it_fits_a_phone(page: Page, seed: Any, theme: Any, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=theme)
    for run in ("long", "resumed", "live"):
        page.goto(f"{seed.up.url}/runs/{seed.runs[run]}/{path}")
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, run


def open_chart(page: Page, seed: Any, run: str, query: str) -> None:
    page.goto(f"{seed.up.url}/runs/{seed.runs[run]}/{query}")
    page.wait_for_selector(f"{CHART} .nsewdrag")


def badge(page: Page) -> tuple[int, int]:
    """How many points became how many."""
    text = page.evaluate(f"{BADGE}.textContent").replace("\u2009", "")
    stored, _, shown = text.partition(" → ")
    return int(stored), int(shown)


def drag(page: Page, low: float, high: float) -> None:
    """Zoom by the pointer from one part of the chart's width to another."""
    box = page.locator(f"{CHART} .nsewdrag").first.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + low * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + high * box["width"], y, steps=6)
    page.mouse.up()
    page.mouse.move(2, 2)
