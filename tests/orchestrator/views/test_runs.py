"""The run list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.models import Desired, Process, Run, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User


def test_an_empty_list_offers_recipes(ada: User, browser_of: Callable[[User], Client]) -> None:
    page = browser_of(ada).get("/runs/").content.decode()
    assert "No runs yet" in page
    assert page.count("?recipe=") == 3


def test_a_row_says_what_matters(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get("/runs/").content.decode()
    for words in (
        "sort-grpo",
        'data-state="finished"',
        "GRPO",
        "noisy-sort",
        "eval/reward",
        "0.800",
    ):
        assert words in page
    assert "<polyline points=" in page


def test_filters_are_in_the_address(
    ada: User, finished: Run, run: Run, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    for query, shown in (
        ("state=finished", {"sort-grpo"}),
        ("tag=demo", {"sort-grpo"}),
        ("q=tiny", {"tiny"}),
        ("q=nothing", set()),
    ):
        page = browser.get(f"/runs/?{query}").content.decode()
        assert {name for name in ("sort-grpo", "tiny") if f">{name}</a>" in page} == shown, query


def test_an_address_with_nonsense_shows_a_list_all_the_same(
    ada: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    for query in ("state=flying", "page=0", "page=x", "page=99999999999", "kind=%00"):
        assert browser_of(ada).get(f"/runs/?{query}").status_code == 200, query


def test_names_are_escaped(ada: User, run: Run, browser_of: Callable[[User], Client]) -> None:
    Run.objects.update(name="<img src=x>", reason="<b>bold</b>", tags=["<i>"])
    page = browser_of(ada).get("/runs/").content.decode()
    assert "<img src=x>" not in page and "<b>bold" not in page and "<i>" not in page


def test_the_owner_stops_several_at_once(
    ada: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    answer = browser_of(ada).post("/runs/stop/", {"run": [run.pk], "back": "/runs/?state=running"})
    assert answer["Location"] == "/runs/?state=running"
    run.refresh_from_db()
    assert run.desired == Desired.STOP


def test_another_operator_stops_nothing_and_learns_why(
    bob: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(bob).post("/runs/stop/", {"run": [run.pk]}, follow=True).content.decode()
    assert "Only the owner" in page
    run.refresh_from_db()
    assert run.desired == Desired.RUN


def test_it_never_leads_to_another_site(
    ada: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    fields = {"run": [run.pk], "back": "https://evil.example/"}
    assert browser_of(ada).post("/runs/stop/", fields)["Location"] == "/runs/"


def test_a_waiting_run_says_why(ada: User, run: Run, browser_of: Callable[[User], Client]) -> None:
    Run.objects.update(
        state=State.QUEUED, process=Process.NONE, reason="Waits for a free slot on n1."
    )
    assert "Waits for a free slot on n1." in browser_of(ada).get("/runs/").content.decode()


def test_the_list_costs_few_queries_however_long(
    ada: User,
    finished: Run,
    browser_of: Callable[[User], Client],
    django_assert_max_num_queries: Callable[[int], object],
) -> None:
    browser = browser_of(ada)
    browser.get("/runs/")
    for number in range(20):
        Run.objects.create(name=f"r{number}", owner=ada, spec=finished.spec)
    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        browser.get("/runs/")
