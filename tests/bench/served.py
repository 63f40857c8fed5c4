"""A server for benchmarks: a DATA of its own, the embedded PostgreSQL, daphne in its own process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "bench"


@dataclass
class Served:
    """What a benchmark may use."""

    folder: Path
    port: int
    web: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self) -> str:
        """An API token that may read."""
        from orchestrator.models import User
        from orchestrator.services.tokens import api_token_create

        user, _ = User.objects.get_or_create(username="ada")
        return api_token_create(user=user, scope="read")


@contextlib.contextmanager
def served() -> Iterator[Served]:
    """Start all of it; Django is ready to be used in this process too."""
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database's own account passes through
        os.environ |= {"ANNEAL_DATA_DIR": name, "DJANGO_SETTINGS_MODULE": "orchestrator.settings"}
        os.environ.pop("DATABASE_URL", None)
        from orchestrator import postgres

        os.environ["DATABASE_URL"] = postgres.ensure_running(folder)
        try:
            import django
            from django.core.management import call_command

            django.setup()
            call_command("migrate", verbosity=0)
            with _web() as (port, web):
                yield Served(folder, port, web)
        finally:
            postgres.remove(folder)


@contextlib.contextmanager
def _web() -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "daphne", "-p", str(port), "orchestrator.asgi:application"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2).close()
                break
            time.sleep(0.1)
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def run_make(name: str) -> Any:
    """A run under way whose lease token is its name."""
    from orchestrator.models import Attempt, Run, User
    from orchestrator.services.tokens import digest_of

    ada, _ = User.objects.get_or_create(username="ada")
    run = Run.objects.create(name=name, owner=ada, spec={}, attempt=1, process="alive")
    Attempt.objects.create(run=run, number=1, lease_digest=digest_of(name))
    return run
