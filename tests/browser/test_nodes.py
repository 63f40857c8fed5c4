"""The nodes page in a browser, with a machine of eight GPUs that speaks as a node does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.browser.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GIB = 2**30
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Machine:
    """A scripted machine: it joins and speaks by HTTP, and trains nothing."""

    def __init__(self, up: Served, name: str) -> None:
        self.url, self.token = up.url, admin_token(up)
        self._admin = self.token
        made = self.ask("POST", "/nodes", {"name": name, "labels": ["h200", "room=2"]})
        self.id, self.token = made["id"], made["token"]
        proof = (up.folder / "var" / "broker" / "proof").read_text()
        joined = self.ask("POST", "/nodes/join", {"proof": proof, "inventory": self.has(0)})
        self.instance = joined["instance"]

    def has(self, load: int) -> dict[str, Any]:
        """What it reports while its GPUs are loaded so many percent."""
        gpus = [
            {
                "index": index,
                "uuid": f"GPU-{index}",
                "name": "NVIDIA H200",
                "memory": 141 * GIB,
                "used": (20 + 15 * index) * GIB,
                "utilisation": max(0, load - index),
                "power": 100.0 + 5 * load,
                "power_limit": 700.0,
                "temperature": 40 + index,
            }
            for index in range(8)
        ]
        return {
            "cpus": 192, "cpu_load": load / 2, "memory": 2000 * GIB, "memory_used": 300 * GIB,
            "disk": 7000 * GIB, "disk_free": 300 * GIB, "gpus": gpus, "driver": "570.86.15",
            "cuda": "12.8", "engines": {"native": "2.13.0", "vllm": "0.32.0"},
            "versions": {"python": "3.12.4", "torch": "2.13.0", "vllm": "0.32.0"},
            "system": "Linux 6.8 x86_64",
        }  # fmt: skip

    def speak(self, load: int) -> None:
        """One heartbeat."""
        beat = {"inventory": self.has(load), "expect_next_in": 600, "instance": self.instance}
        self.ask("POST", "/heartbeats", beat)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API with an admin's token."""
        own, self.token = self.token, self._admin
        try:
            return self.ask(method, path, body)
        finally:
            self.token = own

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API with its token."""
        request = urllib.request.Request(
            f"{self.url}/api{path}",
            method=method,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with OPENER.open(request, timeout=20) as answer:
            return json.loads(answer.read())


def admin_token(up: Served) -> str:
    env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    env |= {
        "ANNEAL_DATA_DIR": str(up.folder / "var"),
        "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
    }
    command = [sys.executable, "manage.py", "api_token", "admin", "--scope", "admin"]
    told = subprocess.run(
        command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


@pytest.fixture(scope="module")
def up() -> Iterator[Served]:
    with Served("--slots", "1") as served:
        yield served


@pytest.fixture(scope="module")
def window(chromium: Browser, up: Served) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(up.link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/runs/")
    yield page
    context.close()


@pytest.fixture(scope="module")
def machine(up: Served) -> Machine:
    return Machine(up, "rack-1")


@pytest.fixture
def page(window: Page, up: Served) -> Page:
    window.set_viewport_size({"width": 1440, "height": 900})
    window.goto(f"{up.url}/nodes/")
    return window


OVERLAPS = """() => [...document.querySelectorAll("main .card")].filter((card) =>
  card.scrollWidth > card.clientWidth + 1 && getComputedStyle(card).overflowX === "visible",
).map((card) => card.className)"""
"""Cards whose content is wider than they are."""


def until(page: Page, happened: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until something is so, while the browser goes on."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"never came: {what}"
        page.wait_for_timeout(100)


def card(page: Page, machine: Machine) -> Locator:
    return page.locator(f"#node-{machine.id}")


def load_of(page: Page, machine: Machine) -> str:
    return card(page, machine).locator(".gpu-meters .number").first.inner_text().strip()


def test_what_a_machine_says_appears_without_a_reload(page: Page, machine: Machine) -> None:
    page.evaluate("window.sameDocument = true")
    for load in (35, 88):
        machine.speak(load)
        until(page, lambda load=load: load_of(page, machine) == f"{load} %", f"load {load}")
    width = "getComputedStyle(document.querySelector('.gpu-meters .bar span')).width"
    bar = "getComputedStyle(document.querySelector('.gpu-meters .bar')).width"
    share = page.evaluate(f"parseFloat({width}) / parseFloat({bar})")
    assert share == pytest.approx(0.88, abs=0.01)
    text = card(page, machine).inner_text()
    for words in ("ready", "NVIDIA H200", "540 of 700 W", "40 °C", "141 GiB", "CPU, 192 threads",
                  "vllm 0.32.0", "VRAM", "h200", "room=2"):  # fmt: skip
        assert words in text.replace("\n", " ").replace("\u2009", ""), words
    assert card(page, machine).locator("figure.hour svg path.mean").count() == 5
    assert page.evaluate("window.sameDocument === true")


def test_figures_move_under_a_hand_and_typed_text_stays(page: Page, machine: Machine) -> None:
    machine.speak(10)
    until(page, lambda: load_of(page, machine) == "10 %", "the first load")
    details = card(page, machine).locator("details")
    details.locator("summary").click()
    details.locator("input[name=labels]").fill("h200 not-saved-yet")
    machine.speak(77)
    until(page, lambda: load_of(page, machine) == "77 %", "the load while somebody types")
    assert details.locator("input[name=labels]").input_value() == "h200 not-saved-yet"
    assert details.get_attribute("open") is not None


@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_the_window(page: Page, machine: Machine, width: int, tmp_path: Path) -> None:
    machine.speak(64)
    page.set_viewport_size({"width": width, "height": 900})
    page.reload()
    until(page, lambda: load_of(page, machine) == "64 %", "the load")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = """() => [...document.querySelectorAll('.node')].flatMap(card =>
      [...card.querySelectorAll('.meter, .gpu .row, .gpu-meters .number, figcaption, .slots li')].filter(part =>
        part.scrollWidth > part.clientWidth + 1 ||
        part.getBoundingClientRect().right > card.getBoundingClientRect().right))
      .map(part => part.className)"""
    assert page.evaluate(inside) == []
    page.screenshot(path=tmp_path / f"nodes-{width}.png", full_page=True)


def test_old_figures_are_called_old_until_the_server_answers_again(
    page: Page, machine: Machine
) -> None:
    trouble = page.locator("[data-trouble]")
    assert trouble.is_hidden()
    page.route("**/nodes/cards/", lambda route: route.fulfill(status=500, body="x"))
    machine.speak(20)
    until(page, trouble.is_visible, "a word about old figures")
    assert "s old: the server answered 500" in trouble.inner_text()
    assert "NVIDIA H200" in card(page, machine).inner_text()
    page.unroute("**/nodes/cards/")
    until(page, trouble.is_hidden, "the figures to be fresh again")


def test_an_admin_does_everything_on_the_page(page: Page, machine: Machine, up: Served) -> None:
    for verb, pill in (("Cordon", "cordoned"), ("Uncordon", "ready"), ("Drain", "drained")):
        card(page, machine).get_by_role("button", name=verb, exact=True).click()
        word = card(page, machine).locator(".pill").first
        until(page, lambda word=word, pill=pill: pill in word.inner_text(), pill)
    page.locator("#add summary").click()
    page.get_by_label("Name").fill("rack-2")
    page.get_by_role("button", name="Make token").click()
    command = page.locator("#join-command").inner_text()
    assert "manage.py node --server" in command and "--token anneal_node_" in command
    page.goto(f"{up.url}/nodes/")
    assert "anneal_node_" not in page.content()

    def decide(name: str, button: str, meanwhile: int = 0) -> None:
        # Before its script runs, a page cannot ask.
        until(page, page.locator("[data-connection]").is_visible, "the socket")
        article = page.locator("article", has=page.get_by_role("heading", name=name, exact=True))
        article.locator("summary").click()
        article.get_by_role("button", name=button).click()
        if meanwhile:
            # Figures come while the dialog asks: the form that it asks about must still be there.
            machine.speak(meanwhile)
            until(page, lambda: load_of(page, machine) == f"{meanwhile} %", "them")
        page.get_by_role("dialog").get_by_role("button", name=button).click()

    decide("rack-1", "Revoke token", meanwhile=42)
    word = card(page, machine).locator(".pill").first
    until(page, lambda: "revoked" in word.inner_text(), "the pill to say so")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        machine.speak(1)
    for name in ("rack-1", "rack-2"):
        decide(name, "Remove")
        gone = page.get_by_role("heading", name=name, exact=True)
        until(page, lambda gone=gone: gone.count() == 0, f"{name} to go")


def test_a_name_of_sixty_letters_breaks_and_pushes_nothing_out_of_the_page(
    page: Page, up: Served, machine: Machine
) -> None:
    long = Machine(up, f"rack-{'x' * 55}")
    spec = {
        "name": "y" * 110,
        "objective": {"type": "sft"},
        "data": {"train": [{"source": "arithmetic"}]},
        "resources": {"labels": ["nowhere"]},
    }
    run = long.admin("POST", "/runs", {"spec": spec})["id"]
    until(page, lambda: "rack-x" in long.admin("GET", f"/runs/{run}")["reason"], "why it waits")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for path in ("/nodes/", "/queue/", "/runs/", f"/runs/{run}/", "/new/"):
            page.goto(f"{up.url}{path}")
            over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert over <= 0, f"{path} at {width}: {over} px too wide"
            cut = page.evaluate(OVERLAPS)
            assert not cut, f"{path} at {width}: out of its card: {cut}"
