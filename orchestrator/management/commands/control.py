"""Run the control worker: the queue `control`, and the beat that fills it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Any

from celery.beat import Service
from django.conf import settings
from django.core.management.base import BaseCommand

from orchestrator.beat import MemoryScheduler
from orchestrator.celery import app
from orchestrator.data_dir import alive_path
from orchestrator.services.store_keeper import keeper_start
from trainer.liveness import touch_always


class Command(BaseCommand):
    """`manage.py control`: one of these belongs to every installation."""

    help = "Schedule runs, sweep leases, and do other work of the server."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until told to stop."""
        worker = app.Worker(
            hostname=f"control@{socket.gethostname()}",
            queues=["control"],
            # With processes, a shutdown after a revoked task kills the task that still runs.
            pool="threads",
            concurrency=2,
            loglevel="INFO",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        # Not `--beat`: that forks a second process, which a killed worker leaves behind.
        threading.Thread(target=_beat, name="beat", daemon=True).start()
        ending = threading.Event()
        keeper_start(ending)
        touch_always(alive_path(settings.ANNEAL_DATA_DIR, "control"))
        worker.start()
        ending.set()
        sys.exit(worker.exitcode)


def _beat() -> None:
    """Beat for as long as this process lives, and not the other way round."""
    app.set_current()
    try:
        Service(app, max_interval=1, scheduler_cls=MemoryScheduler, remote_control=False).start()
    finally:
        # Without a beat nothing is scheduled: whoever started us will start us again.
        os.kill(os.getpid(), signal.SIGTERM)
