"""The retention simulator in the browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from orchestrator.models import Checkpoint, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User

RULE = {"keep_last": "1", "keep_best": "0"}


@pytest.fixture
def saved(finished: Run) -> Run:
    Checkpoint.objects.create(
        run=finished, attempt=1, step=10, path="x", sha256="1" * 64, bytes=1024, pinned=True
    )
    return finished


def fields_of(page: str) -> dict[str, str]:
    """What the form that applies the rule sends."""
    form = page.partition("Apply the rule")[0].rpartition("<form")[2]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def left() -> list[int]:
    kept = Checkpoint.objects.filter(deleted=None)
    return sorted(kept.values_list("step", flat=True))


def test_it_shows_what_would_go_and_why_the_rest_stays_and_deletes_nothing(
    ada: User, saved: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get("/checkpoints/retention/", {**RULE, "run": saved.pk})
    text = page.content.decode()
    assert "<b>1</b> of 3 checkpoints would go" in text and "2.59 MiB</b> freed" in text
    for why in ("pinned", "the newest", "no part of the rule keeps it"):
        assert f"{why}</td>" in text, why
    assert left() == [10, 20, 40]


def test_what_was_looked_at_is_deleted_by_its_owner(
    ada: User, saved: Run, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    text = browser.get("/checkpoints/retention/", {**RULE, "run": saved.pk}).content.decode()
    fields = fields_of(text)
    assert fields["expect"] and fields["keep_last"] == "1"
    page = browser.post("/checkpoints/retention/apply/", fields, follow=True).content.decode()
    assert "1 checkpoint deleted" in page and "all 2 stay" in page
    assert left() == [10, 40]


def test_another_set_by_now_is_refused_and_so_is_a_post_without_having_looked(
    ada: User, saved: Run, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    text = browser.get("/checkpoints/retention/", {**RULE, "run": saved.pk}).content.decode()
    fields = fields_of(text)
    Checkpoint.objects.filter(step=10).update(pinned=False)
    for expect in (fields["expect"], "", "x"):
        page = browser.post(
            "/checkpoints/retention/apply/", {**fields, "expect": expect}, follow=True
        )
        assert "Since you looked, what would go has changed" in page.content.decode()
    assert left() == [10, 20, 40]


def test_all_runs_are_for_admins_and_others_only_simulate(
    ada: User, bob: User, vera: User, alma: User, saved: Run, browser_of: Callable[[User], Client]
) -> None:
    for user, query in ((ada, {}), (bob, {"run": saved.pk}), (vera, {"run": saved.pk})):
        browser = browser_of(user)
        text = browser.get("/checkpoints/retention/", {**RULE, **query}).content.decode()
        assert "would go" in text and "Apply the rule" not in text
        answer = browser.post("/checkpoints/retention/apply/", {**RULE, **query})
        assert answer.status_code == 403
    assert left() == [10, 20, 40]
    browser = browser_of(alma)
    fields = fields_of(browser.get("/checkpoints/retention/", RULE).content.decode())
    browser.post("/checkpoints/retention/apply/", fields)
    assert left() == [10, 40]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"keep_last": "many"}, "keep_last: "),
        ({"keep_last": "", "keep_best": ""}, "would keep nothing"),
        ({"older_than_days": "-1"}, "older_than_days: "),
    ],
)
def test_a_rule_that_is_none_says_so_and_stays_typed(
    vera: User, saved: Run, browser_of: Callable[[User], Client], query, says
) -> None:
    answer = browser_of(vera).get("/checkpoints/retention/", query)
    assert answer.status_code == 422 and says in answer.content.decode()
    for value in filter(None, query.values()):
        assert f'value="{value}"' in answer.content.decode()


def test_the_first_look_has_the_usual_rule_and_nonsense_is_harmless(
    vera: User, saved: Run, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(vera)
    text = browser.get("/checkpoints/retention/").content.decode()
    assert 'name="keep_last" value="2"' in text and "Nothing would go: all 3 stay" in text
    assert browser.get("/checkpoints/retention/?run=nothing").status_code == 404
    text = browser.get("/checkpoints/retention/?metric=<script>x&keep_best=1").content.decode()
    assert "<script>x" not in text
    Checkpoint.objects.all().delete()
    assert "No checkpoint is kept" in browser.get("/checkpoints/retention/").content.decode()
