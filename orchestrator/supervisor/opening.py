"""Bring the database to what the code expects, before any part reads it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.management import call_command
from django.db import connections

from orchestrator import postgres
from orchestrator.supervisor.address import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

ONLY_THIS_MACHINE = "Anneal listens on 127.0.0.1 unless others can be kept out. To listen on {host}"


def database_open(data_dir: Path) -> None:
    """Point Django at the database that now runs, and migrate it."""
    if not os.environ.get("DATABASE_URL"):
        # The settings were read before the first start, when the database had no address.
        connections["default"].settings_dict.update(postgres.django_database(data_dir))
    call_command("migrate", interactive=False, verbosity=0, skip_checks=True)


def accounts_open(data_dir: Path) -> User | None:
    """Make sure that somebody can sign in and that this machine can join as a node."""
    from orchestrator.services.first_account import first_admin_ensure  # noqa: PLC0415
    from orchestrator.services.nodes import local_node_token_ensure  # noqa: PLC0415

    local_node_token_ensure(data_dir)
    return first_admin_ensure()


def host_names_check(host: str) -> None:
    """Refuse an address that others can reach while no host names are set."""
    if not is_loopback(host) and not os.environ.get("ANNEAL_ALLOWED_HOSTS"):
        raise ValueError(
            f"{ONLY_THIS_MACHINE.format(host=host)}, set ANNEAL_ALLOWED_HOSTS to the names by "
            "which people reach this machine, separated by commas."
        )


def host_password_check(host: str) -> None:
    """Refuse an address that others can reach while no admin has a password."""
    from orchestrator.services.first_account import admin_password_exists  # noqa: PLC0415

    if not is_loopback(host) and not admin_password_exists():
        raise ValueError(
            f"{ONLY_THIS_MACHINE.format(host=host)}, first give an admin a password: "
            "python manage.py changepassword admin"
        )
