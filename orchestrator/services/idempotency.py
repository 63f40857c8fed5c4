"""A key that a client sends with a POST makes the request safe to repeat."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, TypeVar

from django.db import transaction

from orchestrator.models import IdempotencyKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Run, User

Thing = TypeVar("Thing")

KEY_LENGTH = 200


class KeyReused(ValueError):
    """A key came again with another request."""


def request_digest(method: str, path: str, body: bytes) -> str:
    """SHA-256 of what makes two requests the same."""
    return hashlib.sha256(f"{method} {path}\n".encode() + body).hexdigest()


def once(*, user: User, key: str | None, request: str, make: Callable[[], Run]) -> Run:
    """What `make` returns, or what it returned to the first request with this key.

    Raises KeyReused when the key belongs to another request; a `make` that raises uses no key up.
    """
    if not key:
        return make()
    with transaction.atomic():
        record = _claimed(user, key, request)
        if record.run is None:
            record.run = make()
            record.save(update_fields=["run"])
        return record.run


def once_named(
    *,
    user: User,
    key: str | None,
    request: str,
    find: Callable[[str], Thing | None],
    make: Callable[[str | None], Thing],
) -> Thing:
    """The same for what is no run: with a key, the id of what is made follows from user and key.

    `find` looks for that id, `make` takes it (None: any). Raises KeyReused as above.
    """
    if not key:
        return make(None)
    name = base64.b32encode(hashlib.sha256(f"{user.pk} {key}".encode()).digest())
    made_id = name.decode().lower()[:12]
    with transaction.atomic():
        _claimed(user, key, request)
        found = find(made_id)
        return make(made_id) if found is None else found


def _claimed(user: User, key: str, request: str) -> IdempotencyKey:
    """The row of a key, locked. Raises KeyReused, or ValueError for what can be no key."""
    if len(key) > KEY_LENGTH or not key.isprintable():
        raise ValueError(f"Idempotency-Key must be at most {KEY_LENGTH} printable characters")
    # Of two requests at once, the second one waits here until the first one is committed.
    IdempotencyKey.objects.bulk_create(
        [IdempotencyKey(user=user, key=key, request=request)], ignore_conflicts=True
    )
    record = IdempotencyKey.objects.select_for_update().get(user=user, key=key)
    if record.request != request:
        raise KeyReused("this Idempotency-Key was used for another request; take a new one")
    return record
