"""Store points as chunks, one a push, and give metric names their small keys."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from django.db import transaction

from orchestrator import blocks
from orchestrator.models import Chunk, Series
from orchestrator.selectors.wire import execute
from orchestrator.services.entries import PushError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from orchestrator.services.entries import Line

RUNS_REMEMBERED = 500
SERIES_MOST = 20_000
"""Metric names of one run: its newest values lie in one row, which every push writes."""

INSERT = (
    f'INSERT INTO "{Chunk._meta.db_table}" (run_id, attempt, first, last, lines, points, data) '
    "VALUES (%s, %s, %s, %s, %s, %s, %s)"
)

_ids_of_run: OrderedDict[str, dict[str, int]] = OrderedDict()
"""Series ids of the runs that spoke last, per process. Only committed ids are remembered."""


def chunk_store(*, run_id: str, attempt: int, lines: list[Line]) -> None:
    """Store the metrics lines of a push within the current transaction."""
    shapes = [tuple(line.values) for line in lines]
    ids = series_ids(run_id=run_id, keys=set(chain.from_iterable(set(shapes))))
    heads, values = lines_read(lines, shapes, ids)
    data = blocks.chunk_pack(heads, values)
    first, last = lines[0].seq, lines[-1].seq
    execute(INSERT, [run_id, attempt, first, last, len(lines), len(values), data])


def lines_read(
    lines: list[Line], shapes: list[tuple[str, ...]], ids: dict[str, int]
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Lines as the arrays of a chunk; `shapes` holds the names of each."""
    heads = np.array([(e.seq, e.step, e.time, len(e.values)) for e in lines], blocks.LINE)
    numbers = array("d")
    for line in lines:
        numbers.extend(line.values.values())
    of_shape = {shape: array("q", [ids[key] for key in shape]) for shape in set(shapes)}
    values = np.empty(len(numbers), blocks.VALUE)
    values["series"] = np.frombuffer(b"".join([of_shape[shape] for shape in shapes]), "<i8")
    values["value"] = numbers
    return heads, values


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
