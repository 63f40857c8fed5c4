"""Tokens of people, links, nodes and leases: random, shown once, stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from orchestrator.models import ApiToken, Attempt, LoginLink, Scope

if TYPE_CHECKING:
    from orchestrator.models import User

LOGIN_LINK_MINUTES = 15
USED_EVERY = timedelta(minutes=1)
"""How exactly a token's last use is kept."""


def secret_new(prefix: str = "") -> str:
    """A fresh secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is stored of a secret. A plain hash serves: nobody guesses 256 random bits."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _is(secret: str, digest: str) -> bool:
    return hmac.compare_digest(digest_of(secret), digest)


def api_token_create(*, user: User, name: str = "", scope: str = "read") -> str:
    """Make a token and return it; it cannot be shown again. Raises ValueError for an unknown scope."""
    if scope not in Scope.values:
        raise ValueError(f"'{scope}' is not a scope; use {', '.join(Scope.values)}")
    token = secret_new("anneal_")
    ApiToken.objects.create(user=user, name=name, scope=scope, digest=digest_of(token))
    return token


def api_token_check(token: str) -> ApiToken | None:
    """The token's row with its user, or None when it is unknown, revoked, or its user is inactive."""
    found = (
        ApiToken.objects.select_related("user")
        .filter(digest=digest_of(token), revoked=None, user__is_active=True)
        .first()
    )
    if found is None or not _is(token, found.digest):
        return None
    now = timezone.now()
    if found.last_used is None or now - found.last_used > USED_EVERY:
        ApiToken.objects.filter(pk=found.pk).update(last_used=now)
    return found


def api_token_revoke(*, token_id: int, user: User) -> bool:
    """Take back one of `user`'s own tokens; False when there is no such token in use."""
    mine = ApiToken.objects.filter(pk=token_id, user=user, revoked=None)
    return mine.update(revoked=timezone.now()) == 1


def login_link_create(*, user: User) -> str:
    """Make the token of a one-time link."""
    token = secret_new()
    expires = timezone.now() + timedelta(minutes=LOGIN_LINK_MINUTES)
    LoginLink.objects.create(user=user, digest=digest_of(token), expires=expires)
    return token


def login_link_redeem(token: str) -> User | None:
    """The user whom the link lets in; None when it is unknown, used or too old."""
    link = LoginLink.objects.select_related("user").filter(digest=digest_of(token)).first()
    if link is None or not link.user.is_active:
        return None
    # Of two clicks at the same moment, one changes the row. No join in this condition: Django would ask it in
    # a subquery, which PostgreSQL does not ask again after waiting for the first click's lock.
    now = timezone.now()
    won = LoginLink.objects.filter(pk=link.pk, used=None, expires__gt=now).update(used=now) == 1
    return link.user if won else None


def lease_check(token: str) -> Attempt | None:
    """The attempt for which `ship` speaks with this token, fenced ones included."""
    if not token:
        return None
    found = Attempt.objects.select_related("run").filter(lease_digest=digest_of(token)).first()
    return found if found is not None and _is(token, found.lease_digest) else None
