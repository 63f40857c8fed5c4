"""Celery beat without a file: the schedule is code, and every message expires by itself."""

from __future__ import annotations

from typing import Any

from celery.beat import Scheduler


class MemoryScheduler(Scheduler):
    """Keeps the times of the last beats in memory only."""

    def __init__(self, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    @property
    def info(self) -> str:
        """Return the line that beat prints at its start."""
        return "    . schedule in memory"
