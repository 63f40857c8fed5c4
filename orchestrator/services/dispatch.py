"""Sends Celery messages. Each carries ids only, may be lost or doubled, and is sent after the commit."""

from __future__ import annotations

import logging
import time

from kombu.exceptions import OperationalError

from orchestrator.celery import app

log = logging.getLogger(__name__)

SOON_EVERY = 0.2
_newest = 0.0


def queue_of(node_name: str) -> str:
    """The queue of a node's worker."""
    return f"node.{node_name}"


def launch_send(*, node_name: str, run_id: str, attempt: int) -> bool:
    """Tell a node to claim an attempt; False when the broker is away: sweep sends again."""
    # Without a date of expiry: a node would judge it by its own clock, which may be hours off.
    return _send("node_launch", [run_id, attempt], queue=queue_of(node_name), expires=None)


def schedule_soon() -> None:
    """Ask control to schedule now rather than at its next beat."""
    global _newest
    if time.monotonic() - _newest > SOON_EVERY:
        _newest = time.monotonic()
        _send("schedule", [], queue="control", expires=5)


def remove_soon() -> None:
    """Ask control to go on with what is to be deleted."""
    _send("remove", [], queue="control", expires=5)


def sent_tell(checkpoint_id: str, sha256: str) -> None:
    """Ask control to look for a checkpoint in the artifact store."""
    _send("checkpoint_sent", [checkpoint_id, sha256], queue="control", expires=60)


def _send(task: str, arguments: list[str | int], *, queue: str, expires: int | None) -> bool:
    try:
        app.send_task(
            f"orchestrator.tasks.{task}",
            args=arguments,
            queue=queue,
            expires=expires,
            retry=False,
            ignore_result=True,
        )
    except (OperationalError, OSError) as error:
        log.warning("the broker did not take %s: %s", task, error)
        return False
    return True
