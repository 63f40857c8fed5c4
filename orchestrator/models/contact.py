"""Who is in contact, and the state that this gives: pure functions of rows and the clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from orchestrator.models.state import shown_state
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from orchestrator.models.node import Node
    from orchestrator.models.run import Run

GRACE = timedelta(seconds=TEMPO.grace)
"""How long after a broken promise a run or node is still taken to be there."""
LEASE = timedelta(seconds=TEMPO.lease)
"""How long an attempt may be silent: host, ship and node each speak every few seconds."""


def in_contact(run: Run, now: datetime) -> bool:
    """Whether the lease of the run's attempt, plus grace, still holds."""
    return run.last_contact is None or now <= run.last_contact + LEASE + GRACE


def state_now(run: Run, now: datetime | None = None) -> str:
    """The state that the run's facts give at this moment, whether or not a sweep has noticed."""
    return shown_state(
        desired=run.desired,
        process=run.process,
        cause=run.cause,
        in_contact=in_contact(run, now or timezone.now()),
    )


def node_alive(node: Node) -> bool:
    """Whether the node has joined and keeps its promise to speak, within the grace."""
    if node.last_seen is None or node.revoked is not None:
        return False
    return timezone.now() <= node.last_seen + timedelta(seconds=node.expect_next_in) + GRACE
