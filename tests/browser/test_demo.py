"""The first five minutes in a browser: sign in by the link, launch a recipe, watch its chart, stop it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error as PageError

from tests.browser.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MINUTE = 60_000
LAST_STEP = "window.__anneal?.lastPoint?.step ?? -1"
LINES = "[...document.querySelectorAll('.scatterlayer path.js-line')].map((line) => line.getAttribute('d')).join()"


def until(page: Page, expression: str, seconds: float = 120) -> None:
    """Wait until it holds. Playwright's own wait needs `eval`, which the content policy forbids."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # A page that loads itself again has no script to ask for a moment.
        with contextlib.suppress(PageError):
            if page.evaluate(expression):
                return
        page.wait_for_timeout(100)
    raise AssertionError(f"never came true: {expression}")


@pytest.fixture(scope="module")
def up() -> Iterator[Served]:
    """The product, started as people start it."""
    with Served("--slots", "1") as served:
        yield served


@pytest.fixture(scope="module")
def page(chromium: Browser, up: Served) -> Iterator[Page]:
    """A browser window, signed in by the one-time link."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    window = context.new_page()
    window.goto(up.link)
    window.get_by_role("button", name="Sign in").click()
    window.wait_for_url("**/runs/")
    yield window
    context.close()


@pytest.fixture
def complaints(page: Page) -> Iterator[list[str]]:
    """What the browser complained about: errors of scripts, and what the content policy refused."""
    found: list[str] = []

    def heard(message: Any) -> None:
        if message.type == "error":
            found.append(message.text)

    def failed(error: Any) -> None:
        found.append(str(error))

    page.on("console", heard)
    page.on("pageerror", failed)
    yield found
    page.remove_listener("console", heard)
    page.remove_listener("pageerror", failed)


def late(route: Route) -> None:
    time.sleep(2)
    route.continue_()


def test_a_recipe_is_launched_watched_and_stopped(page: Page, complaints: list[str]) -> None:
    """One journey, in the order in which a newcomer makes it."""
    page.locator(".recipe a", has_text=re.compile("sort", re.IGNORECASE)).first.click()
    page.locator("[data-launch]:enabled").click()
    page.wait_for_url(re.compile(r"/runs/[a-z2-7]{12}/$"))

    page.wait_for_selector(".chart[data-status=drawn]", timeout=2 * MINUTE)
    until(page, f"{LAST_STEP} > 1")
    # Both in one look: between two, the chart may move on.
    step, lines = page.evaluate(f"[{LAST_STEP}, {LINES}]")
    until(page, f"{LAST_STEP} > {step + 2}")
    # Its own time in the page: charts take turns, so the newest point may be another chart's.
    until(page, f"{LINES} != {json.dumps(lines)}", 30)
    assert page.locator("[data-connection]").inner_text() == "live"

    page.get_by_role("button", name="Stop and save").click()
    page.locator("dialog").get_by_role("button", name="Stop and save").click()
    page.wait_for_selector(".run-head .pill[data-state=stopped]", timeout=MINUTE)
    # Slower to answer than the page is to load itself again when its run ends.
    page.route("**/checkpoints/", late)
    page.get_by_role("link", name="Checkpoints", exact=True).last.click()
    page.wait_for_selector("td code")
    assert complaints == []


def test_the_log_follows_and_the_curves_come_back_after_a_reload(
    page: Page, complaints: list[str]
) -> None:
    run = page.url.partition("/checkpoints/")[0]
    page.goto(f"{run}/log/")
    assert page.locator("[data-lines] > div").count() > 0
    page.goto(f"{run}/?smooth=0")
    page.wait_for_selector(".chart[data-status=drawn]")
    assert page.evaluate(LINES)
    assert complaints == []


def test_it_works_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/runs/", page.url):
        page.goto(path if path.startswith("http") else page.url.partition("/runs/")[0] + path)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
