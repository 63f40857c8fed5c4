"""The methods page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer import catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User


@pytest.fixture
def text(vera: User, browser_of: Callable[[User], Client]) -> str:
    return browser_of(vera).get("/methods/").content.decode()


def test_it_shows_every_method_under_its_own_anchor(text: str) -> None:
    for entry in catalog.catalog():
        assert f'id="{entry.family}/{entry.type}"' in text
        assert entry.sha256[:12] in text


def test_a_knob_shows_default_bounds_range_and_source(text: str) -> None:
    card = text.partition('id="objectives/grpo"')[2].partition("</article>")[0]
    row = card.partition("<code>clip_high</code>")[2].partition("</tr>")[0]
    for words in ("<code>0.28</code>", "&gt; 0, &lt; 10", "0.2 to 0.28", "arXiv 2503.14476"):
        assert words in row


def test_a_method_leads_to_a_form_that_holds_it(
    text: str, ada: User, browser_of: Callable[[User], Client]
) -> None:
    assert 'href="/new/?type=objectives%2Fdpo"' in text
    form = browser_of(ada).get("/new/?type=objectives%2Fdpo").content.decode()
    assert '<option value="dpo" selected>' in form


def test_what_no_run_names_directly_offers_no_launch(text: str) -> None:
    card = text.partition('id="data/scored-pairs"')[2].partition("</article>")[0]
    assert "transform of rows" in card and "Launch with this" not in card


def test_links_within_the_page_lead_somewhere(text: str) -> None:
    import re

    anchors = set(re.findall(r'id="([^"]+)"', text))
    wanted = {link for link in re.findall(r'href="#([^"]+)"', text) if not link.startswith("i-")}
    assert wanted and wanted <= anchors


def test_search_leads_to_the_method(ada: User, browser_of: Callable[[User], Client]) -> None:
    page = browser_of(ada).get("/search/", {"q": "grpo"}).content.decode()
    assert 'href="/methods/#objectives/grpo"' in page


def test_objectives_stand_below_what_they_learn_from(text: str) -> None:
    headings = ["its own sampled answers", "pairs of a chosen and a rejected answer"]
    headings += ["demonstrated answers", "answers labelled good or bad", "rated answers"]
    places = [text.index(f"Learns from {heading}</h3>") for heading in headings]
    assert places == sorted(places)
    between = text[places[1] : places[2]]
    assert 'id="objectives/dpo"' in between and 'id="objectives/grpo"' not in between
