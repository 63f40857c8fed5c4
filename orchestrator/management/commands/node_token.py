"""Make a node and print the token with which its machine joins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from orchestrator.services.nodes import node_invite

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """`manage.py node_token NAME`."""

    help = "Make a node and print its token, alone, on stdout. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("name", help="lower-case letters, digits, dots, dashes, underscores")
        parser.add_argument(
            "--label", action="append", default=[], help="a label that runs may ask for"
        )
        parser.add_argument("--data-dir", help="where everything is kept (default: var)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it."""
        try:
            _, token = node_invite(name=options["name"], labels=options["label"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(token)
