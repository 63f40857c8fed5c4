"""The work of deleting runs: rows in batches, then the run, then files. Cut off anywhere, it is taken up again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from orchestrator.models import (
    Block,
    Chunk,
    Event,
    LogLine,
    Removal,
    Run,
    Sample,
    Series,
    StepSpans,
)
from orchestrator.services.checkpoint_copies import copies_of, copies_remove
from orchestrator.services.compaction import LOCK
from orchestrator.services.hints import hint
from orchestrator.services.store_copies import run_leaves
from orchestrator.services.store_keeper import look_soon
from trainer.disk import disk_bytes, folders_remove, run_folders

if TYPE_CHECKING:
    from django.db.models import Model

    from orchestrator.models import Node

WITHIN = 2.0
"""Seconds of one helping: the control worker has other things to do."""
TELL_EVERY = 1.0
OF_RUN = "run_id = %s"
OF_SERIES = f'series_id IN (SELECT id FROM "{Series._meta.db_table}" WHERE run_id = %s)'
BATCHES: tuple[tuple[type[Model], str, int], ...] = (
    (Chunk, OF_RUN, 200),
    (Block, OF_SERIES, 500),
    (Sample, OF_RUN, 2000),
    (LogLine, OF_RUN, 5000),
    (StepSpans, OF_RUN, 2000),
    (Event, OF_RUN, 5000),
)
"""What a run may have very many of: table, which rows, and how many go in one transaction."""


def removals_work(*, within: float = WITHIN) -> None:
    """Go on with what was asked to be deleted here, for about so many seconds."""
    end, told = time.monotonic() + within, 0.0
    asked = Removal.objects.filter(node=None, done=None).order_by("pk")
    for pk, run_id in list(asked.values_list("pk", "run_id")):
        while _helping(pk):
            now = time.monotonic()
            if now - told > TELL_EVERY:
                told = now
                hint("run", run=run_id)
            if now > end:
                return
        hint("run", run=run_id)


def _helping(pk: int) -> bool:
    """Do the next part of one removal, in one transaction; False when it is done, or another process is at it."""
    with transaction.atomic():
        locked = Removal.objects.select_for_update(skip_locked=True, no_key=True)
        removal = locked.filter(pk=pk, done=None).first()
        if removal is None:
            return False
        found = _batch(removal.run_id) or _run(removal.run_id)
        for name, count in found.items():
            removal.rows[name] = removal.rows.get(name, 0) + count
        if not found:
            _files(removal)
        removal.save(update_fields=["rows", "bytes", "done"])
        return removal.done is None


def _batch(run_id: str) -> dict[str, int]:
    """Delete the next rows of the run; {} when none is left of what it has very many of."""
    for kind, where, most in BATCHES:
        table = kind._meta.db_table
        with connection.cursor() as cursor:
            if kind in (Chunk, Block):
                # Whoever packs points takes and writes these rows as well, in another order.
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            cursor.execute(
                f'DELETE FROM "{table}" WHERE ctid = ANY(ARRAY('
                f'SELECT ctid FROM "{table}" WHERE {where} LIMIT {most}))',
                [run_id],
            )
            if cursor.rowcount:
                return {kind._meta.model_name or table: cursor.rowcount}
    return {}


def _run(run_id: str) -> dict[str, int]:
    """Delete the run with what little is left of it, and what arrived meanwhile; {} when it is gone."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return {}
    _, rows = run.delete()
    return {name.rpartition(".")[2].lower(): count for name, count in rows.items() if count}


def _files(removal: Removal) -> None:
    """Count what the files take up, then remove them: whoever is killed in between counts nothing twice."""
    folders = run_folders(settings.ANNEAL_DATA_DIR, removal.run_id, removal.checkpoints)
    if removal.bytes is None:
        copies = copies_of(removal.run_id)
        removal.bytes = sum(disk_bytes(one) for one in (*folders, copies) if one.is_dir())
        return
    folders_remove(folders)
    copies_remove(removal.run_id)
    run_leaves(removal.run_id)
    look_soon()
    removal.done = timezone.now()


def removals_of(node: Node) -> list[dict[str, Any]]:
    """What a node has still to free: `{run, checkpoints}`."""
    asked = Removal.objects.filter(node=node, done=None).order_by("pk")
    return [{"run": one.run_id, "checkpoints": one.checkpoints} for one in asked]


def removal_report(*, node: Node, run_id: str, freed: int) -> bool:
    """Note what a node freed; False when nobody asked it to."""
    asked = Removal.objects.filter(node=node, run_id=run_id, done=None)
    return asked.update(done=timezone.now(), bytes=max(0, freed)) == 1
