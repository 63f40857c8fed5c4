"""Chromium, and a page that can import the project's JavaScript without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

playwright = pytest.importorskip("playwright.sync_api")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

STATIC = Path(__file__).parents[2] / "static"
HOST = "http://anneal.test"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def chromium_path() -> str | None:
    """Chromium: the one of CHROMIUM, Debian's, or None for Playwright's own."""
    named = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
    return named if Path(named).exists() else None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser for all tests."""
    # The sync API runs an event loop in this thread, and Django refuses the ORM beside one.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=chromium_path())
        except playwright.Error as error:
            pytest.skip(f"no Chromium here: {error}")
        yield browser
        browser.close()


@pytest.fixture
def module_page(chromium: Browser) -> Iterator[Page]:
    """An empty page of a host whose files are those of `static/`."""
    context = chromium.new_context()
    page = context.new_page()

    def serve(route: Route) -> None:
        path = STATIC / route.request.url.removeprefix(f"{HOST}/")
        if path.is_file():
            route.fulfill(body=path.read_bytes(), content_type=TYPES[path.suffix])
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    page.route(f"{HOST}/**", serve)
    page.goto(f"{HOST}/empty")
    yield page
    context.close()
