"""Celery tasks: thin. `node_launch` runs on a node, the others in control."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from orchestrator.data_dir import alive_path
from orchestrator.node.launch import order_take
from orchestrator.services import compaction, placement, retention, store_keeper
from orchestrator.services.checkpoint_removals import checkpoint_removals_work
from orchestrator.services.judges import judges_settle
from orchestrator.services.promotions import promotions_settle
from orchestrator.services.promotions_after import promotions_begin, promotions_failed_tell
from orchestrator.services.pulse import pulse_touch
from orchestrator.services.removals import removals_work
from orchestrator.services.spans import spans_trim
from trainer.liveness import touch

CONTROL = "control"


def _begun() -> None:
    """Note that tasks are taken up, before one waits for anything: beat, broker and pool work."""
    touch(alive_path(settings.ANNEAL_DATA_DIR, "control-work"))


@shared_task
def schedule() -> int:
    """Place queued runs."""
    _begun()
    pulse_touch(CONTROL)
    return placement.schedule()


@shared_task
def sweep() -> None:
    """Send lost messages again and notice who fell silent."""
    _begun()
    placement.sweep()


@shared_task
def pack() -> int:
    """Pack points into blocks."""
    return compaction.pack_due().points


@shared_task
def remove() -> None:
    """Go on with deleting runs and checkpoints."""
    checkpoint_removals_work()
    removals_work()


@shared_task
def promote() -> None:
    """Compare what finished runs left, decide where no answer is missing any more, and set judges to work."""
    promotions_begin()
    promotions_settle()
    promotions_failed_tell()
    judges_settle()


@shared_task
def checkpoint_sent(checkpoint_id: str, sha256: str) -> None:
    """Look for a checkpoint that its node says it has put into the artifact store."""
    store_keeper.sent_note(str(checkpoint_id), str(sha256))


@shared_task
def keep_house() -> None:
    """Delete what was kept long enough, and free the space of what is gone."""
    retention.retain()
    spans_trim()
    retention.reclaim()


@shared_task
def node_launch(run_id: str, attempt: int) -> None:
    """Claim an attempt and start it on this machine."""
    order_take(str(run_id), int(attempt))
