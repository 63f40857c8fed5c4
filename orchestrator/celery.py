"""The Celery app `anneal`: carries orders as JSON; the database decides what they are worth."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

from celery import Celery
from django.conf import settings

# Imported for its effect: it gives `filesystem://` its meaning.
import orchestrator.broker  # noqa: F401
from trainer.tempo import TEMPO

BROKER_FOLDER = settings.ANNEAL_DATA_DIR / "broker"
FOLDERS = {"messages": BROKER_FOLDER / "messages", "control": BROKER_FOLDER / "control"}


class Anneal(Celery):
    """A Celery app that makes the filesystem broker's folders when it first connects."""

    def connection_for_read(self, *args: Any, **kwargs: Any) -> Any:
        self._folders_ensure()
        return super().connection_for_read(*args, **kwargs)

    def connection_for_write(self, *args: Any, **kwargs: Any) -> Any:
        self._folders_ensure()
        return super().connection_for_write(*args, **kwargs)

    def _folders_ensure(self) -> None:
        if str(self.conf.broker_url).startswith("filesystem:"):
            options = self.conf.broker_transport_options
            for name in ("data_folder_in", "data_folder_out", "control_folder"):
                os.makedirs(options[name], mode=0o700, exist_ok=True)


app = Anneal("anneal")
app.conf.update(
    broker_url=settings.BROKER_URL,
    broker_connection_retry_on_startup=True,
    # JSON only, in and out: nothing that arrives is ever unpickled.
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    event_serializer="json",
    task_ignore_result=True,
    task_default_queue="control",
    # Nobody listens to a worker's own chatter, and on the filesystem broker it costs files.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    beat_scheduler="orchestrator.beat:MemoryScheduler",
    beat_max_loop_interval=1,
    beat_schedule={
        # A message that found no worker in time is worthless: the next one is on its way.
        "schedule": {
            "task": "orchestrator.tasks.schedule",
            "schedule": 1.0,
            "options": {"expires": 5.0},
        },
        "sweep": {
            "task": "orchestrator.tasks.sweep",
            "schedule": TEMPO.sweep,
            "options": {"expires": 5.0},
        },
        "pack": {
            "task": "orchestrator.tasks.pack",
            "schedule": 2.0,
            "options": {"expires": 2.0},
        },
        "remove": {
            "task": "orchestrator.tasks.remove",
            "schedule": 2.0,
            "options": {"expires": 2.0},
        },
        "promote": {
            "task": "orchestrator.tasks.promote",
            "schedule": 5.0,
            "options": {"expires": 5.0},
        },
        "keep-house": {
            "task": "orchestrator.tasks.keep_house",
            "schedule": 60.0,
            "options": {"expires": 5.0},
        },
    },
    timezone="UTC",
)
if settings.BROKER_URL.startswith("filesystem:"):
    app.conf.broker_transport_options = {
        "data_folder_in": str(FOLDERS["messages"]),
        "data_folder_out": str(FOLDERS["messages"]),
        "control_folder": str(FOLDERS["control"]),
        "polling_interval": 0.1,
    }
app.autodiscover_tasks(["orchestrator"])
