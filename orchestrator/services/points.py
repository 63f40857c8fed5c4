"""Write points by binary COPY, and give metric names their small keys."""

from __future__ import annotations

import struct
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from django.db import connection, transaction

from orchestrator.models import Point, Series
from orchestrator.selectors.points import COLUMNS, ROW
from orchestrator.services.entries import PushError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.services.entries import Entry

RUNS_REMEMBERED = 500
SERIES_MOST = 20_000
"""Metric names of one run: its newest values lie in one row, which every push writes."""

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
COPY_END = struct.pack(">h", -1)

_ids_of_run: OrderedDict[str, dict[str, int]] = OrderedDict()
"""Series ids of the runs that spoke last, per process. Only committed ids are remembered."""


def points_copy(*, run_id: str, attempt: int, entries: list[Entry]) -> None:
    """Store points of one attempt within the current transaction."""
    ids = series_ids(run_id=run_id, keys={entry.key for entry in entries})
    rows = np.empty(len(entries), dtype=ROW)
    rows["fields"] = len(COLUMNS)
    for name, kind in COLUMNS.items():
        rows[f"{name}_bytes"] = int(kind[1])
    rows["series"] = [ids[entry.key] for entry in entries]
    rows["attempt"] = attempt
    for name in ("seq", "step", "time", "value"):
        rows[name] = [getattr(entry, name) for entry in entries]
    columns = ", ".join(f'"{Point._meta.get_field(name).column}"' for name in COLUMNS)
    order = f'COPY "{Point._meta.db_table}" ({columns}) FROM STDIN (FORMAT BINARY)'
    # Django turns the driver's errors into its own for queries, and leaves COPY to its callers.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(order) as copy:
        copy.write(COPY_HEADER + rows.tobytes() + COPY_END)


def series_ids(*, run_id: str, keys: Iterable[str]) -> dict[str, int]:
    """The id of each metric name of a run; unknown names get one."""
    known = _ids_of_run.get(run_id, {})
    new = sorted(set(keys) - known.keys())
    if not new:
        return known
    stored = Series.objects.filter(run_id=run_id)
    count = stored.exclude(key__in=new).count() + len(new)
    if count > SERIES_MOST:
        raise PushError(f"the run would have {count} metric names; {SERIES_MOST} is the most")
    Series.objects.bulk_create(
        [Series(run_id=run_id, key=key) for key in new], ignore_conflicts=True
    )
    fresh = dict(Series.objects.filter(run_id=run_id, key__in=new).values_list("key", "pk"))
    # A transaction that fails takes its new ids with it.
    transaction.on_commit(partial(_remember, run_id, fresh))
    return {**known, **fresh}


def _remember(run_id: str, ids: dict[str, int]) -> None:
    _ids_of_run[run_id] = {**_ids_of_run.get(run_id, {}), **ids}
    _ids_of_run.move_to_end(run_id)
    while len(_ids_of_run) > RUNS_REMEMBERED:
        _ids_of_run.popitem(last=False)
