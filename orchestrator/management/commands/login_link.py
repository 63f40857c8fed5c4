"""Make a one-time login link for a user and print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand

from orchestrator.management.accounts import account_find
from orchestrator.supervisor.ledger import url_of_live_up

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """`manage.py login_link USERNAME`."""

    help = "Print a link that signs a user in: it works once, within 15 minutes."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare for whom."""
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the link."""
        from orchestrator.services.tokens import login_link_create  # noqa: PLC0415

        user = account_find(options["username"])
        address = url_of_live_up(settings.ANNEAL_DATA_DIR) or settings.ANNEAL_URL
        self.stdout.write(f"{address.rstrip('/')}/login/link/{login_link_create(user=user)}/")
