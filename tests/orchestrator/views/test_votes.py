"""The pages of votes: what they say to whom, and what the vote page does not say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission

from orchestrator.models import Ballot, Dataset
from tests.orchestrator.compared import compared, judged, voted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def comparison(ada: User) -> Comparison:
    return compared(ada, arms=("alpha-7b", "omega-7b"), items=30, name="<b>which</b>")


def page(client: Client, comparison: Comparison, part: str = "vote", query: str = "") -> Any:
    return client.get(f"/compare/{comparison.pk}/{part}/{query}")


def test_the_page_holds_no_names_and_draws_no_ballot(
    browser_of: Callable[[User], Client], ada: User, comparison: Comparison
) -> None:
    answer = page(browser_of(ada), comparison)
    text = answer.content.decode()
    assert answer.status_code == 200 and "data-vote" in text
    assert not Ballot.objects.exists(), "loading a page changes nothing"
    for arm in comparison.arms.all():
        assert arm.name not in text and arm.digest not in text
    assert "<b>which</b>" not in text and "&lt;b&gt;which" in text
    assert "data-gold" not in text


def test_admins_are_offered_test_items(
    browser_of: Callable[[User], Client], alma: User, comparison: Comparison
) -> None:
    assert "data-gold" in page(browser_of(alma), comparison).content.decode()


def test_viewers_are_told_how_to_get_in(
    browser_of: Callable[[User], Client], vera: User, comparison: Comparison
) -> None:
    client = browser_of(vera)
    refused = page(client, comparison)
    assert refused.status_code == 403 and "Can add vote" in refused.content.decode()
    assert page(client, comparison, "ratings").status_code == 200
    vera.user_permissions.add(Permission.objects.get(codename="add_vote"))
    assert page(client, comparison).status_code == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"arms": ("alone",)}, "one model only"),
        ({"text": lambda arm, number, index: None}, "No two models have answered"),
        ({"text": lambda arm, number, index: "same"}, "the same answer"),
    ],
)
def test_reasons_why_nothing_can_be_voted_on(
    browser_of: Callable[[User], Client], ada: User, words: Any, said: str
) -> None:
    text = page(browser_of(ada), compared(ada, **words)).content.decode()
    assert said in re.sub(r"\s+", " ", text) and "js/vote_page.js" not in text


def test_unknown_comparisons_are_404(browser_of: Callable[[User], Client], ada: User) -> None:
    for part in ("vote", "ratings"):
        assert browser_of(ada).get(f"/compare/aaaaaaaaaaaa/{part}/").status_code == 404


def test_ratings_without_votes(
    browser_of: Callable[[User], Client], ada: User, comparison: Comparison
) -> None:
    text = page(browser_of(ada), comparison, "ratings").content.decode()
    assert "Nobody has voted yet." in text and "Judge models</h2>" not in text


@pytest.mark.parametrize(
    "query", ["", "?style=1", "?weights=1", "?style=1&weights=1", "?style=%00"]
)
def test_ratings_with_votes_and_judgements(
    browser_of: Callable[[User], Client], ada: User, bob: User, comparison: Comparison, query: str
) -> None:
    sides = ("alpha-7b", "omega-7b")
    for number in range(30):
        voted(comparison, ada, number, "left", sides)
        voted(comparison, bob, number, "right" if number % 4 else "tie", sides[::-1])
        judged(comparison, number, "right", sides)
    voted(comparison, bob, 0, "left", sides, gold="left", index=3)
    text = page(browser_of(ada), comparison, "ratings", query).content.decode()
    for words in ("alpha-7b", "is ahead of", "Judge models</h2>", "Fleiss", "Make the data set"):
        assert words in text
    assert 'id="ratings-drawn"' in text


def test_the_export_says_what_was_left_out(
    browser_of: Callable[[User], Client], ada: User, vera: User, comparison: Comparison
) -> None:
    sides = ("alpha-7b", "omega-7b")
    voted(comparison, ada, 0, "left", sides)
    voted(comparison, ada, 1, "tie", sides)
    url = f"/compare/{comparison.pk}/preferences/"
    assert browser_of(vera).post(url, {}).status_code == 403
    client = browser_of(ada)
    wrong = client.post(url, {"name": "kept", "runs": "aaaaaaaaaaaa"})
    assert wrong.status_code == 422
    assert "there is no run" in wrong.content.decode() and 'value="kept"' in wrong.content.decode()
    made = client.post(url, {"name": "kept"}, follow=True)
    assert made.redirect_chain == [(f"/datasets/{Dataset.objects.get().pk}/", 302)]
    assert "1 pair stored. 1 left out: 1 tie." in made.content.decode()
