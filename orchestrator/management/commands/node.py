"""Join this machine to a server as a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from orchestrator.celery import app
from orchestrator.node.address import CannotJoin
from orchestrator.node.server import Server
from orchestrator.node.worker import work

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """`manage.py node`."""

    help = "Join this machine to a server as a node. Stopping it leaves its runs going."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; `--data-dir` is taken by manage.py before the settings are read."""
        parser.add_argument("--server", required=True, help="the server's URL, http://HOST:PORT")
        token = parser.add_mutually_exclusive_group(required=True)
        token.add_argument("--token", help="the node token, from the server's nodes page")
        token.add_argument("--token-file", type=Path, help="a file that holds it")
        parser.add_argument("--name", default="", help="the node's name; else the server's choice")
        parser.add_argument("--slots", type=int, help="runs at a time; default one per GPU, or one")
        parser.add_argument(
            "--label",
            action="append",
            default=[],
            help="a word or key=value that runs may ask for in resources.labels; may be repeated",
        )
        parser.add_argument("--data-dir", help="where runs are kept (default: var)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until told to stop."""
        token = options["token"] or _read(options["token_file"])
        if not options["server"].startswith(("http://", "https://")):
            raise CommandError("--server must be a URL such as http://192.0.2.7:8000")
        server = Server(options["server"], token)
        try:
            work(
                server,
                app,
                name=options["name"],
                slots=options["slots"],
                data_dir=settings.ANNEAL_DATA_DIR,
                labels=options["label"],
                artifacts=settings.ANNEAL_ARTIFACTS_URL,
            )
        except CannotJoin as error:
            raise CommandError(str(error)) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError(f"--token-file: {error}") from None
