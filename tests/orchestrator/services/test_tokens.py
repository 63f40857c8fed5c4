"""Tokens: shown once, stored as a digest, and worth nothing when used, old or revoked."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from orchestrator.models import ApiToken, LoginLink
from orchestrator.services.tokens import (
    api_token_check,
    api_token_create,
    api_token_revoke,
    lease_check,
    login_link_create,
    login_link_redeem,
)


def test_an_api_token_is_stored_as_its_digest_only(ada):
    token = api_token_create(user=ada, name="ci", scope="operate")
    row = api_token_check(token)
    assert (row.user, row.scope, len(row.digest)) == (ada, "operate", 64)
    stored = [str(value) for value in ApiToken.objects.values_list().get()]
    assert not any(token in value for value in stored)
    assert ApiToken.objects.get().last_used is not None


def test_unknown_revoked_and_orphaned_tokens_are_refused(ada, bob):
    token = api_token_create(user=ada)
    for wrong in ("", "anneal_x", token[:-1], token + "x", "\ud800"):
        assert api_token_check(wrong) is None
    row = api_token_check(token)
    assert api_token_revoke(token_id=row.pk, user=bob) is False
    assert api_token_revoke(token_id=row.pk, user=ada) is True
    assert api_token_check(token) is None
    other = api_token_create(user=ada)
    ada.is_active = False
    ada.save()
    assert api_token_check(other) is None


def test_an_unknown_scope_is_an_error(ada):
    with pytest.raises(ValueError, match="not a scope"):
        api_token_create(user=ada, scope="root")


def test_a_login_link_works_once_and_not_for_long(ada):
    token = login_link_create(user=ada)
    assert login_link_redeem(token) == ada
    assert login_link_redeem(token) is None
    old = login_link_create(user=ada)
    LoginLink.objects.filter(used=None).update(expires=timezone.now() - timedelta(seconds=1))
    assert login_link_redeem(old) is None
    assert login_link_redeem("guess") is None


@pytest.mark.django_db(transaction=True)
def test_of_two_clicks_at_once_one_gets_in(ada):
    token, gate, people = login_link_create(user=ada), threading.Barrier(6), []

    def click() -> None:
        gate.wait()
        people.append(login_link_redeem(token))
        connection.close()

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [person for person in people if person] == [ada]


def test_a_lease_token_names_its_attempt(run):
    assert lease_check("lease-of-the-run-1").number == 1
    assert lease_check("") is None
    assert lease_check("lease-of-the-run-2") is None
