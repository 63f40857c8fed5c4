"""Make an API token for a user and print it, alone, on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from orchestrator.management.accounts import account_find

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """`manage.py api_token USERNAME`."""

    help = "Make an API token for a user; it is shown this once."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare whose token, and what it may do."""
        parser.add_argument("username")
        parser.add_argument("--name", default="", help="what the token is for")
        parser.add_argument(
            "--scope",
            choices=("read", "operate", "admin"),
            default="read",
            help="the most it may do; the user's role caps it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token."""
        from orchestrator.services.tokens import api_token_create  # noqa: PLC0415

        user = account_find(options["username"])
        token = api_token_create(user=user, name=options["name"], scope=options["scope"])
        self.stdout.write(token)
