"""Start everything on this machine and keep it up until Ctrl-C."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from orchestrator.supervisor.parts import Wanted
from orchestrator.supervisor.session import Extras, live

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """`manage.py up`."""

    help = "Start database, web, control and a local node, and keep them up until Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; `--data-dir` is taken by manage.py before the settings are read."""
        parser.add_argument("--demo", action="store_true", help="also launch the starter pipeline")
        parser.add_argument(
            "--until-done",
            action="store_true",
            help="with --demo: stop when it has ended; exit code 1 if a run failed",
        )
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 = any")
        parser.add_argument("--slots", type=int, help="runs at a time on this machine")
        parser.add_argument("--no-browser", action="store_true", help="open no browser")
        parser.add_argument("--data-dir", help="where everything is kept (default: var)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        if options["until_done"] and not options["demo"]:
            raise CommandError("--until-done needs --demo.")
        wanted = Wanted(
            settings.ANNEAL_DATA_DIR, options["host"], options["port"], options["slots"]
        )
        extras = Extras(options["demo"], options["until_done"], not options["no_browser"])
        try:
            code = live(wanted, extras)
        except ValueError as error:
            raise CommandError(str(error)) from None
        sys.exit(code)
