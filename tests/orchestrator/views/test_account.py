"""A person's own tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.models import ApiToken
from orchestrator.services.tokens import api_token_check, api_token_create

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User


def test_a_new_token_is_shown_once_and_works(
    ada: User, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    page = browser.post("/account/tokens/", {"name": "laptop", "scope": "operate"}).content.decode()
    shown = re.search(r"anneal_[\w-]+", page)
    assert shown
    found = api_token_check(shown[0])
    assert found is not None and (found.user, found.scope) == (ada, "operate")
    again = browser.get("/account/").content.decode()
    assert "laptop" in again and shown[0] not in again


def test_a_revoked_token_works_no_more(ada: User, browser_of: Callable[[User], Client]) -> None:
    token = api_token_create(user=ada)
    browser_of(ada).post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/")
    assert api_token_check(token) is None


def test_nobody_revokes_the_token_of_another(
    ada: User, alma: User, browser_of: Callable[[User], Client]
) -> None:
    token = api_token_create(user=ada)
    browser_of(alma).post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/")
    assert api_token_check(token) is not None


def test_an_unknown_scope_makes_nothing(ada: User, browser_of: Callable[[User], Client]) -> None:
    browser_of(ada).post("/account/tokens/", {"scope": "everything"})
    assert not ApiToken.objects.exists()
