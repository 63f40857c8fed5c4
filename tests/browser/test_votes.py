"""Voting in a browser: by keyboard, once, and without a word of who wrote what before the vote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from orchestrator.models import Checkpoint, Role, Run, User, Vote
from tests.orchestrator.compared import compared, voted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Response

    from orchestrator.models import Comparison

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

STATE = "[data-vote][data-state={}]"
ARMS = ("secret-alpha", "secret-omega")


class Booth:
    """A voter's window at a comparison, and everything that came into it."""

    def __init__(self, page: Page, url: str, comparison: Comparison) -> None:
        self.page, self.comparison = page, comparison
        self.url = f"{url}/compare/{comparison.pk}"
        self.heard: list[str] = []
        self.complaints: list[str] = []
        page.on("response", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, response: Response) -> None:
        if "/static/" not in response.url and response.status != 204:
            self.heard.append(f"{response.url}\n{response.headers}\n{response.text()}")

    def open(self) -> None:
        self.page.goto(f"{self.url}/vote/")
        self.wait("voting")

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(STATE.format(state), timeout=10_000)

    def press(self, key: str, state: str) -> None:
        self.page.keyboard.press(key)
        self.wait(state)

    def names(self) -> list[str]:
        return self.page.locator("[data-name]").all_inner_texts()

    def secrets(self) -> list[str]:
        """What would tell who wrote what."""
        found = []
        for arm in self.comparison.arms.select_related("checkpoint"):
            found += [arm.name, arm.digest, arm.checkpoint_id, arm.checkpoint.run_id]
        return found


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", password="x", role=Role.OPERATOR)


@pytest.fixture
def booth(chromium: Browser, live_server: Any, ada: User) -> Iterator[Booth]:
    comparison = compared(ada, arms=ARMS, items=6, name="which one")
    for arm in comparison.arms.all():
        run = Run.objects.create(name=f"run of {arm.name}", owner=ada, spec={})
        arm.checkpoint = Checkpoint.objects.create(
            run=run, attempt=1, step=7, path="x", sha256="0" * 64
        )
        arm.save()
    client = Client()
    client.force_login(ada)
    session = {"name": "anneal_session", "value": client.cookies["anneal_session"].value}
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{**session, "url": live_server.url}])
    made = Booth(context.new_page(), live_server.url, comparison)
    yield made
    context.close()
    assert made.complaints == []


def test_a_vote_by_keyboard_from_ballot_to_names(booth: Booth) -> None:
    page = booth.page
    booth.open()
    assert booth.names() == ["", ""] and page.locator("[data-undo]").is_hidden()
    told = "\n".join([*booth.heard, page.content(), page.url, str(page.context.cookies())])
    for secret in booth.secrets():
        assert secret not in told, f"{secret} is told before the vote"
    texts = page.locator("[data-text]").all_inner_texts()

    booth.press("ArrowLeft", "told")
    vote = Vote.objects.get()
    assert vote.outcome == "left" and 0 < vote.seconds < 60
    assert booth.names() == [vote.left.name, vote.right.name]
    assert f"You chose answer 1: {vote.left.name}." in page.locator("[data-told]").inner_text()
    assert page.locator("[data-side=left]").get_attribute("data-chosen") == ""

    # The vote has been cast: the same keys do nothing more.
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    booth.press("Space", "voting")
    assert Vote.objects.count() == 1
    assert booth.names() == ["", ""] and "secret" not in page.locator("main").inner_text()
    assert page.locator("[data-text]").all_inner_texts() != texts
    for key, outcome in (("2", "right"), ("t", "tie"), ("b", "both-bad")):
        booth.press(key, "told")
        assert Vote.objects.latest("pk").outcome == outcome
        booth.press("Space", "voting")
    assert page.locator("[data-voted]").inner_text() == "4"


def test_a_key_that_is_held_down_votes_once(booth: Booth) -> None:
    booth.open()
    booth.page.keyboard.down("ArrowLeft")
    booth.wait("told")
    booth.page.keyboard.press("Space")
    booth.wait("voting")
    booth.page.keyboard.down("ArrowLeft")
    booth.page.wait_for_timeout(300)
    assert Vote.objects.count() == 1
    booth.page.keyboard.up("ArrowLeft")
    booth.press("ArrowLeft", "told")
    assert Vote.objects.count() == 2


def test_a_vote_is_taken_back_by_key(booth: Booth) -> None:
    booth.open()
    booth.press("1", "told")
    booth.page.keyboard.press("u")
    booth.page.wait_for_selector("[data-told]:has-text('Taken back: it does not count')")
    assert Vote.objects.get().undone is not None
    assert booth.page.locator("[data-undo]").is_hidden()
    booth.press("Space", "voting")
    assert booth.page.locator("[data-voted]").inner_text() == "0"


def test_a_second_tab_and_the_end(booth: Booth) -> None:
    page = booth.page
    booth.open()
    other = page.context.new_page()
    other.goto(f"{booth.url}/vote/")
    other.wait_for_selector(STATE.format("voting"))
    booth.press("t", "told")
    other.keyboard.press("ArrowRight")
    other.wait_for_selector(STATE.format("stuck"))
    assert "has had its vote" in other.locator("[data-problem]").inner_text()
    assert Vote.objects.count() == 1
    other.close()
    for _ in range(5):
        booth.press("Space", "voting")
        booth.press("t", "told")
    page.keyboard.press("Space")
    page.wait_for_selector("text=You have voted on every pair there is.")
    page.goto(f"{booth.url}/vote/")
    assert page.locator("h2", has_text="Nothing left to vote on").is_visible()


def test_a_server_that_fails_costs_no_vote(booth: Booth) -> None:
    page = booth.page
    # Before the page opens: the browser may let a request pass that follows a new route at once.
    page.route("**/votes", lambda route: route.abort())
    booth.open()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=The server does not answer")
    booth.wait("voting")
    assert Vote.objects.count() == 0
    page.unroute("**/votes")
    booth.press("ArrowLeft", "told")
    assert page.locator("[data-problem]").is_hidden()
    assert Vote.objects.count() == 1


@pytest.mark.parametrize("width", [390, 1440])
def test_pages_fit_and_ratings_are_drawn(booth: Booth, width: int) -> None:
    page = booth.page
    page.set_viewport_size({"width": width, "height": 900})
    booth.open()
    fits = f"document.documentElement.scrollWidth <= {width}"
    assert page.evaluate(fits)
    left, right = (page.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert left and right
    assert (left["x"] == right["x"]) == (width == 390), "one under the other on a phone"
    assert left["width"] == right["width"]
    for number in range(6):
        voted(booth.comparison, booth.comparison.owner, number, "left", ARMS)
    page.goto(f"{booth.url}/ratings/")
    page.wait_for_selector("[data-ratings] .errorbar", state="attached")
    assert page.locator("[data-ratings] .errorbar").count() == 2
    assert page.evaluate(fits)
    assert "Not enough votes to say which is better" in page.locator("main").inner_text()
    page.get_by_role("switch", name="Style control").click()
    page.wait_for_url("**/ratings/?style=1")
    assert page.get_by_role("switch", name="Style control").get_attribute("aria-checked") == "true"
