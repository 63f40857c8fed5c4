"""Ways of storing points, measured side by side: `python -m tests.bench.layouts [--points 1000000]`.

rows        one row a point with the key (series, attempt, seq), by binary COPY
partitions  the same, with a partition for each run
blocks      what Anneal does: one row a push, packed into blocks with picks

Each takes the same points of 20 series in pushes of 500, then the whole of one series is read and thinned
(rows by min/max in SQL, and by fetching all to numpy; blocks by their points, and by their picks). With
tsdownsample installed its MinMax is timed on the fetched points as well. Medians of several repeats, taken by
turns; bytes are what PostgreSQL holds with indexes, after packing and VACUUM.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.bench.served import run_make, served

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

KEYS = 20
LINES = 25  # of a push
DRAWN = 1500
FIELDS = {"series": "i8", "attempt": "i4", "seq": "i8", "step": "i8", "time": "f8", "value": "f8"}
ROW = np.dtype(
    [("fields", ">i2")]
    + [
        part
        for name, kind in FIELDS.items()
        for part in ((f"{name}_bytes", ">i4"), (name, f">{kind}"))
    ]
)
HEADER, END = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0), struct.pack(">h", -1)
COLUMNS = (
    "series bigint NOT NULL, attempt int NOT NULL, seq bigint NOT NULL, step bigint NOT NULL, "
    "time float8 NOT NULL, value float8 NOT NULL, PRIMARY KEY (series, attempt, seq)"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--points", type=int, default=1_000_000, help="of the one series that is read"
    )
    parser.add_argument("--pushes", type=int, default=400, help="of each write repeat")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with served():
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        writes(given.pushes, given.repeats)
        reads(given.points, given.repeats)


def execute(query: str, values: Any = None) -> Any:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else None


def copy(table: str, rows: NDArray[Any]) -> None:
    from django.db import connection

    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as to,
    ):
        to.write(HEADER + rows.tobytes() + END)


def row_array(series: NDArray[Any], seq: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    rows = np.empty(len(seq), ROW)
    rows["fields"] = 6
    for name, kind in FIELDS.items():
        rows[f"{name}_bytes"] = int(kind[1])
    rows["series"], rows["attempt"], rows["seq"], rows["step"] = series, 1, seq, seq
    rows["time"], rows["value"] = 1e9 + seq, value
    return rows


def writes(pushes: int, repeats: int) -> None:
    """Points a second of pushes of 500, each in a transaction of its own; and bytes a point."""
    from django.db import transaction

    from orchestrator import blocks
    from orchestrator.models import Series
    from orchestrator.selectors.wire import execute as send
    from orchestrator.services.compaction import pack
    from orchestrator.services.points import INSERT

    execute(f"CREATE TABLE bench_rows ({COLUMNS})")
    execute(f"CREATE TABLE bench_parts ({COLUMNS}) PARTITION BY LIST (series)")
    rates: dict[str, list[float]] = {}
    chance = np.random.default_rng(0)
    for repeat in range(repeats):
        run = run_make(f"layout-{repeat}")
        made = [Series.objects.create(run=run, key=f"key{n}").pk for n in range(KEYS)]
        execute(
            f"CREATE TABLE bench_part_{repeat} PARTITION OF bench_parts "
            f"FOR VALUES IN ({', '.join(map(str, made))})"
        )
        series = np.tile(np.array(made), LINES)
        values = chance.normal(size=(pushes, LINES * KEYS))

        def rows_put(
            table: str, values: NDArray[Any] = values, series: NDArray[Any] = series
        ) -> None:
            for push, value in enumerate(values):
                seq = np.repeat(np.arange(push * LINES + 1, (push + 1) * LINES + 1), KEYS)
                with transaction.atomic():
                    copy(table, row_array(series, seq, value))

        def chunks_put(
            run: Any = run, values: NDArray[Any] = values, series: NDArray[Any] = series
        ) -> None:
            heads, points = np.empty(LINES, blocks.LINE), np.empty(LINES * KEYS, blocks.VALUE)
            heads["count"], points["series"] = KEYS, series
            for push, value in enumerate(values):
                heads["seq"] = heads["step"] = np.arange(push * LINES + 1, (push + 1) * LINES + 1)
                heads["time"], points["value"] = 1e9 + heads["seq"], value
                words = [run.pk, 1, push * LINES + 1, (push + 1) * LINES, LINES, len(points)]
                with transaction.atomic():
                    send(INSERT, [*words, blocks.chunk_pack(heads, points)])

        ways: dict[str, Callable[[], None]] = {
            "rows": lambda: rows_put("bench_rows"),
            "partitions": lambda: rows_put("bench_parts"),
            "blocks": chunks_put,
        }
        for name, put in ways.items():
            begun = time.perf_counter()
            put()
            took = time.perf_counter() - begun
            rates.setdefault(name, []).append(pushes * LINES * KEYS / took)
        begun = time.perf_counter()
        while pack(run_id=run.pk, attempt=1).chunks:
            pass
        took = time.perf_counter() - begun
        rates.setdefault("packing them", []).append(pushes * LINES * KEYS / took)
    count = pushes * LINES * KEYS * repeats
    for table in ("bench_rows", "orchestrator_chunk", "orchestrator_block"):
        execute(f"VACUUM {table}")
    sizes = {
        "rows": "pg_total_relation_size('bench_rows')",
        "partitions": "(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('bench_parts'))",
        "blocks": "pg_total_relation_size('orchestrator_block')",
    }
    for name, found in rates.items():
        size = (
            f", {execute(f'SELECT {sizes[name]}')[0][0] / count:.1f} bytes a point"
            if name in sizes
            else ""
        )
        print(f"{name:>24}: {statistics.median(found):>10,.0f} points/s{size}")


def reads(points: int, repeats: int) -> None:
    """Milliseconds until one long series is thinned, in this process."""
    from tests.bench.series import load

    run = load(points)
    pk = execute("SELECT id FROM orchestrator_series WHERE run_id = %s AND key = 'loss'", [run.pk])[
        0
    ][0]
    values = np.array([(n * 7919) % 1000003 / 997 for n in range(1, points + 1)])
    seq = np.arange(1, points + 1)
    execute(f"CREATE TABLE bench_part_long PARTITION OF bench_parts FOR VALUES IN ({pk})")
    for table in ("bench_rows", "bench_parts"):
        copy(table, row_array(np.full(points, pk), seq, values))
        execute(f"ANALYZE {table}")
    ways = {
        "rows, min/max in SQL": lambda: sql_thin("bench_rows", pk, points),
        "rows to numpy": lambda: rows_thin("bench_rows", pk),
        "partition to numpy": lambda: rows_thin("bench_parts", pk),
        "blocks, every point": lambda: blocks_thin(run),
        "blocks, picks": lambda: picks_thin(run),
    }
    try:
        from tsdownsample import MinMaxDownsampler
    except ImportError:
        print("tsdownsample is not installed: its MinMax is left out")
    else:
        ways["blocks and tsdownsample"] = lambda: MinMaxDownsampler().downsample(
            blocks_fetch(run)[1], n_out=DRAWN // 2 * 2
        )
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            took[name].append((time.perf_counter() - begun) * 1e3)
    for name, found in took.items():
        print(f"{name:>24}: {statistics.median(found[1:]):>8.1f} ms for {points:,} points")


def sql_thin(table: str, pk: int, points: int) -> Any:
    width = points // (DRAWN // 2)
    return execute(
        f"SELECT step / {width}, min(value), max(value) FROM {table} WHERE series = %s GROUP BY 1",
        [pk],
    )


def rows_thin(table: str, pk: int) -> Any:
    from orchestrator.selectors.thinning import bits_for, spans_of, thin
    from orchestrator.selectors.wire import rows_read

    rows = rows_read(
        f"SELECT step, value FROM {table} WHERE series = %s ORDER BY attempt, seq", [pk]
    )
    values = np.array([value for _, value in rows])
    numbers = np.arange(len(values))
    return thin(numbers, values, bits_for(spans_of(numbers), DRAWN))


def blocks_fetch(run: Any) -> Any:
    from orchestrator.selectors.curves import Window, values_read
    from orchestrator.selectors.points import series_ids, stored_read

    [pk] = series_ids(run, ["loss"]).values()
    return values_read(stored_read(run, [pk])[pk], Window("step"))


def blocks_thin(run: Any) -> Any:
    from orchestrator.selectors.thinning import bits_for, spans_of, thin

    _, values = blocks_fetch(run)
    numbers = np.arange(len(values))
    return thin(numbers, values, bits_for(spans_of(numbers), DRAWN))


def picks_thin(run: Any) -> Any:
    from orchestrator.selectors.series import series_read

    return series_read(run=run, keys=["loss"], points=DRAWN)


if __name__ == "__main__":
    main()
