"""Run a manage.py command with the DATA it names and, while it needs one, a database."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from orchestrator import postgres
from orchestrator.artifacts.place import VARIABLE, url_checked
from orchestrator.data_dir import data_dir

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

WITHOUT_DATABASE = {
    *("up", "node"),
    *("help", "version", "check", "diffsettings", "findstatic", "collectstatic"),
    *("makemessages", "compilemessages", "startapp", "startproject"),
}


def data_dir_taken(argv: list[str]) -> list[str]:
    """Return `argv` without `--data-dir DIR`, which becomes `ANNEAL_DATA_DIR`."""
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--data-dir":
            os.environ["ANNEAL_DATA_DIR"] = next(words, "")
        elif word.startswith("--data-dir="):
            os.environ["ANNEAL_DATA_DIR"] = word.partition("=")[2]
        else:
            rest.append(word)
    # Absolute from here on: a child may run in another directory.
    os.environ["ANNEAL_DATA_DIR"] = str(data_dir())
    return rest


def needs_embedded_database(argv: list[str]) -> bool:
    """Say whether this command reads the database and no server was named for it."""
    command = argv[1] if len(argv) > 1 else "help"
    asks_help = command.startswith("-") or {"-h", "--help"} & set(argv)
    return not (os.environ.get("DATABASE_URL") or asks_help or command in WITHOUT_DATABASE)


def variables_check() -> None:
    """End with a sentence when a variable of the environment is none that the processes could live with."""
    try:
        import trainer.tempo  # noqa: F401, PLC0415

        url_checked(os.environ.get(VARIABLE, ""), data_dir())
    except ValueError as error:
        sys.exit(str(error))


def run(argv: list[str]) -> None:
    """Run the command in `argv`, as Django's own manage.py does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    argv = data_dir_taken(argv)
    variables_check()
    database: AbstractContextManager[object] = contextlib.nullcontext()
    if needs_embedded_database(argv):
        database = postgres.running(data_dir())
    try:
        with database:
            # After the database, whose address the settings read.
            from django.core.management import execute_from_command_line  # noqa: PLC0415

            execute_from_command_line(argv)
    except postgres.DatabaseError as error:
        sys.exit(f"The embedded database is not available: {error}")
