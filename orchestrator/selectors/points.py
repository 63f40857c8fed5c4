"""Fetch points as arrays: one binary COPY for all keys of a run."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import connection

from orchestrator.models import Point, Run, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

HEADER_BYTES = 19  # COPY's signature, flags and the length of an empty extension
COLUMNS = {"series": "i8", "attempt": "i4", "seq": "i8", "step": "i8", "time": "f8", "value": "f8"}
ROW = np.dtype(
    [("fields", ">i2")]
    + [
        part
        for name, kind in COLUMNS.items()
        for part in ((f"{name}_bytes", ">i4"), (name, f">{kind}"))
    ]
)
"""One row of a point in COPY's binary format: a count of fields, then each one's length and value."""


def points_fetch(
    *, run: Run, keys: Iterable[str], where: str = "", values: Iterable[Any] = ()
) -> dict[str, NDArray[Any]]:
    """The stored points of each known key, in no promised order; `where` narrows them in SQL."""
    ids = dict(Series.objects.filter(run=run, key__in=list(keys)).values_list("pk", "key"))
    if not ids:
        return {}
    rows = _rows(list(ids), where, list(values))
    order = np.argsort(rows["series"], kind="stable")
    rows = rows[order]
    edges = np.searchsorted(rows["series"], [pk for pk in sorted(ids)] + [2**62])
    return {ids[pk]: rows[edges[place] : edges[place + 1]] for place, pk in enumerate(sorted(ids))}


def _rows(ids: list[int], where: str, values: list[Any]) -> NDArray[Any]:
    table = Point._meta.db_table
    columns = ", ".join(f'"{Point._meta.get_field(name).column}"' for name in COLUMNS)
    query = f'SELECT {columns} FROM "{table}" WHERE series_id = ANY(%s) {where}'
    with connection.wrap_database_errors, connection.cursor() as cursor:
        order = f"COPY ({query}) TO STDOUT (FORMAT BINARY)"
        with cursor.copy(order, [ids, *values]) as copy:
            data = b"".join(bytes(part) for part in copy)
    (extension,) = struct.unpack_from(">i", data, HEADER_BYTES - 4)
    assert extension == 0 and len(data) >= HEADER_BYTES + 2
    wire = np.frombuffer(
        data, dtype=ROW, offset=HEADER_BYTES, count=(len(data) - 21) // ROW.itemsize
    )
    rows = np.empty(len(wire), dtype=[(name, f"<{kind}") for name, kind in COLUMNS.items()])
    for name in COLUMNS:
        rows[name] = wire[name]
    return rows


def superseded_removed(rows: NDArray[Any]) -> NDArray[Any]:
    """One point per step, in order of steps: of several the highest attempt's, then the last one."""
    rows = rows[np.lexsort((rows["seq"], rows["attempt"], rows["step"]))]
    if len(rows) < 2:
        return rows
    last = np.append(rows["step"][1:] != rows["step"][:-1], True)
    return rows[last]
