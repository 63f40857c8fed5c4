"""The card of the overview, the tab, and the places that signals lead to."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from orchestrator.models import Checkpoint, Event, LogLine, Process, Run, State
from orchestrator.selectors.post_mortem import post_mortem_read
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User

    Browser = Callable[[User], Client]

pytestmark = pytest.mark.django_db


@pytest.fixture
def broken(run: Run) -> Run:
    story = Story(run).begin().steps(1, 20).save(20).steps(21, 25)
    story.prints("train 25/60", "Traceback (most recent call last):", "KeyError: '<b>'")
    story.fails("crash", "KeyError: '<b>'")
    return run


def text_of(page: bytes) -> str:
    """What a page says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.decode())).split())


def test_the_overview_of_a_failed_run_begins_with_it(
    ada: User, broken: Run, browser_of: Browser
) -> None:
    page = browser_of(ada).get(f"/runs/{broken.pk}/").content
    said = text_of(page)
    for words in (
        "Failed: an error in the trainer", "exit code 1", "attempt 1 of 1", "told by the trainer",
        "Checkpoint at step 20: 5 steps behind it are lost", "Fork from it",
        "The log has a traceback", "A failure of this kind is not cured by starting again",
        "If it is a method of yours, fix its file and retry", "train 25/60", "Whole post-mortem",
    ):  # fmt: skip
        assert words in said, words
    assert b"<b>'" not in page, "what a trainer says is text"
    assert page.index(b"data-post-mortem") < page.index(b"data-chart")
    assert b'"kind": "signal"' in page
    saved = Checkpoint.objects.get()
    assert f"/new/?fork={saved.pk}".encode() in page


def test_a_stall_is_told_once_above_its_card(ada: User, run: Run, browser_of: Browser) -> None:
    """The banner has the evidence; the card below adds what it does not say."""
    story = Story(run, ago=120).begin().steps(1, 5).wait(60)
    evidence = "trainer (pid 7) is stopped (state T)"
    data = {"phase": "update", "evidence": evidence, "silent_s": 90, "expected_s": 60}
    story.alert("stall", "error", source="host", data=data, message=evidence)
    Run.objects.update(last_contact=timezone.now())
    said = text_of(browser_of(ada).get(f"/runs/{run.pk}/").content)
    shown, _, as_text = said.partition("As text")
    assert "Stalled in update" in shown and "Stands still" in shown
    assert shown.count(evidence) == 1 and evidence in as_text


def test_viewers_are_not_offered_a_fork(vera: User, broken: Run, browser_of: Browser) -> None:
    browser = browser_of(vera)
    for path in ("", "post-mortem/", "post-mortem-part/", "post-mortem-part/?attempt=1"):
        page = browser.get(f"/runs/{broken.pk}/{path}").content
        assert b"Last healthy step" in page and b"?fork=" not in page


def test_the_tab_is_offered_where_there_is_one(
    ada: User, broken: Run, finished: Run, browser_of: Browser
) -> None:
    browser = browser_of(ada)
    assert b"/post-mortem/" in browser.get(f"/runs/{broken.pk}/spec/").content
    assert b"/post-mortem/" not in browser.get(f"/runs/{finished.pk}/spec/").content
    page = browser.get(f"/runs/{finished.pk}/post-mortem/")
    assert page.status_code == 200
    assert b"none of its attempts ended badly" in page.content


def test_each_attempt_has_its_own(ada: User, broken: Run, browser_of: Browser) -> None:
    attempt_add(broken, 2)
    Run.objects.update(process=Process.ALIVE, state=State.RUNNING)
    broken.refresh_from_db()
    browser = browser_of(ada)
    assert b"data-post-mortem" not in browser.get(f"/runs/{broken.pk}/").content
    Story(broken, attempt=2).begin(20).steps(21, 22).is_killed()
    page = browser.get(f"/runs/{broken.pk}/post-mortem/?attempt=1").content
    assert "Attempt 1 ended: an error in the trainer" in text_of(page)
    assert b'?attempt=2"' in page
    assert "killed from outside" in text_of(browser.get(f"/runs/{broken.pk}/post-mortem/").content)
    page = browser.get(f"/runs/{broken.pk}/post-mortem/?attempt=7").content
    assert b"This run has no attempt 7" in page and b'?attempt=1"' in page


def test_signals_lead_to_their_line_and_event(ada: User, broken: Run, browser_of: Browser) -> None:
    browser = browser_of(ada)
    link = post_mortem_read(broken)["first"]["link"]
    page = browser.get(link).content.decode()
    line = LogLine.objects.get(text__startswith="Traceback")
    assert link.endswith(f"#line-{line.pk}") and f'id="line-{line.pk}"' in page
    first = Event.objects.order_by("time", "id").first()
    for number in range(150):
        Event.objects.create(
            run=broken, source="server", time=first.time, type="note", data={"message": number}
        )
    page = browser.get(f"/runs/{broken.pk}/events/?event={first.pk}").content.decode()
    assert f'id="event-{first.pk}"' in page
    assert (
        f'id="event-{first.pk}"' not in browser.get(f"/runs/{broken.pk}/events/").content.decode()
    )
    assert browser.get(f"/runs/{broken.pk}/events/?event=99999999").status_code == 200


def test_the_charts_of_an_attempt_say_that_they_are_its_own(
    ada: User, broken: Run, browser_of: Browser
) -> None:
    page = browser_of(ada).get(f"/runs/{broken.pk}/metrics/?attempt=1").content
    assert "The charts show attempt 1 alone" in text_of(page)
    assert b'id="marks"' in page


def test_the_card_goes_when_the_run_is_at_work_again(
    ada: User, broken: Run, browser_of: Browser
) -> None:
    attempt_add(broken, 2)
    Run.objects.update(process=Process.ALIVE, state=State.RUNNING)
    part = browser_of(ada).get(f"/runs/{broken.pk}/post-mortem-part/")
    assert b"The newest attempt is at work again" in part.content


def test_a_failure_leads_from_its_event(ada: User, broken: Run, browser_of: Browser) -> None:
    page = browser_of(ada).get(f"/runs/{broken.pk}/events/").content
    assert f"/runs/{broken.pk}/post-mortem/?attempt=1".encode() in page


def test_nothing_of_it_is_inline(ada: User, broken: Run, browser_of: Browser) -> None:
    for path in ("", "post-mortem/", "post-mortem-part/"):
        page = browser_of(ada).get(f"/runs/{broken.pk}/{path}").content.decode()
        assert not re.search(r"<[^>]*\son\w+=", page)
        assert not re.search(r"<[^>]*\sstyle=", page)
