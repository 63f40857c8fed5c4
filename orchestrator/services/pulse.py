"""Parts that answer no requests say that they are at work."""

from __future__ import annotations

from django.utils import timezone

from orchestrator.models import Pulse


def pulse_touch(name: str) -> None:
    """Note that the part called `name` is at work now."""
    Pulse.objects.update_or_create(name=name, defaults={"seen": timezone.now()})
