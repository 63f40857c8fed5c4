"""Search."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import Run, User


def test_it_finds_runs_and_checkpoints(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    for text in ("SORT-g", finished.pk[:6], "demo"):
        page = browser_of(ada).get("/search/", {"q": text}).content.decode()
        assert f'href="/runs/{finished.pk}/"' in page, text
    assert "step 40" in browser_of(ada).get("/search/", {"q": "sort-grpo"}).content.decode()


def test_a_list_alone_answers_htmx(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get("/search/", {"q": "sort"}, headers={"HX-Request": "true"})
    assert "<html" not in page.content.decode()


def test_what_was_typed_is_escaped(ada: User, browser_of: Callable[[User], Client]) -> None:
    for text in ("<script>x", "\x00", "%", "a" * 5000, ""):
        page = browser_of(ada).get("/search/", {"q": text})
        assert page.status_code == 200
        assert "<script>x" not in page.content.decode()
