"""Find the account that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.db.utils import ProgrammingError

if TYPE_CHECKING:
    from orchestrator.models import User


def account_find(username: str) -> User:
    """Return the account, or end the command with what to do about it."""
    from orchestrator.models import User  # noqa: PLC0415

    try:
        return User.objects.get(username=username)
    except User.DoesNotExist:
        names = ", ".join(User.objects.order_by("pk").values_list("username", flat=True)[:10])
        raise CommandError(f"No user is called {username}. There are: {names or 'none'}.") from None
    except ProgrammingError:
        raise CommandError(
            "This database is empty: start once with `python manage.py up`, or run "
            "`python manage.py migrate`."
        ) from None
