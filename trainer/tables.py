"""Reads tables from files: JSONL, JSON, CSV and Parquet, plain or .gz, without torch or pandas.

Both sides use it: the trainer for its rows, the web application to look into an upload. Text of a CSV
stays text ("0042" does not become 42).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
MOST_BYTES = 16 * 2**30
"""More than this after decompression is refused: a small .gz can hold a disk full of zeros."""
_PARQUET_ROWS = 1024
_CSV_FIELD_BYTES = 64 * 2**20


def format_of(path: Path | str) -> str:
    """ "jsonl", "json", "csv", "tsv" or "parquet", by the file's name. Raises ValueError for others."""
    return FORMATS[ending_of(path).removesuffix(".gz")]


def ending_of(path: Path | str) -> str:
    """The part of a file's name that says how to read it: ".jsonl", ".csv.gz". Raises ValueError."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    packed = ".gz" if suffixes and suffixes[-1] == ".gz" else ""
    if packed:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMATS:
        raise ValueError(
            f"{path}: not a kind of file that can be read; use {', '.join(FORMATS)}, plain or .gz"
        )
    return suffixes[-1] + packed


def table_rows(
    path: Path | str, *, format: str = "", most_bytes: int = MOST_BYTES
) -> Iterator[Row]:
    """The rows of a file, one at a time. Raises ValueError with one sentence that says where it is wrong."""
    path = Path(path)
    kind = format or format_of(path)
    if path.is_dir():
        raise ValueError(
            f"{path}: a folder; name a file in it, or several with a pattern (*.jsonl)"
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    reader = {"jsonl": _jsonl, "json": _json, "csv": _csv, "tsv": _tsv, "parquet": _parquet}[kind]
    try:
        with _open(path, most_bytes) as file:
            yield from reader(path, file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text; {_hint(path, kind)}") from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: not a whole gzip file; copy it again") from error


def rows_preview(
    path: Path | str, n: int = 20, *, format: str = "", most_bytes: int = MOST_BYTES
) -> list[Row]:
    """The first `n` rows. Raises ValueError when one of them cannot be read."""
    return list(islice(table_rows(path, format=format, most_bytes=most_bytes), n))


def columns_of(path: Path | str, *, format: str = "", most_bytes: int = MOST_BYTES) -> list[str]:
    """The columns of the first hundred rows, in the order in which they first appear."""
    rows = rows_preview(path, 100, format=format, most_bytes=most_bytes)
    return list(dict.fromkeys(name for row in rows for name in row))


def rows_count(path: Path | str, *, format: str = "", most_bytes: int = MOST_BYTES) -> int:
    """How many rows the file holds; reads all of it, so it also checks all of it."""
    return sum(1 for _ in table_rows(path, format=format, most_bytes=most_bytes))


class _Bounded(io.RawIOBase):
    """A stream of bytes that refuses to give more than a limit."""

    def __init__(self, file: IO[bytes], path: Path, most_bytes: int) -> None:
        self._file, self._path, self._most, self._given = file, path, most_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._given += len(data)
        if self._given > self._most:
            raise ValueError(f"{self._path}: more than {self._most:,} bytes when decompressed")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(path: Path, most_bytes: int) -> io.BufferedReader:
    packed = path.suffix.lower() == ".gz"
    # Closed with the reader that wraps it.
    file: Any = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115
    return io.BufferedReader(_Bounded(file, path, most_bytes), 1 << 16)


def _hint(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b" and path.suffix.lower() != ".gz":
        return "it is gzip: name it .gz"
    if head == b"PAR1" and kind != "parquet":
        return "it is Parquet: name it .parquet"
    return "save it as UTF-8"


def _jsonl(path: Path, file: IO[bytes]) -> Iterator[Row]:
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise ValueError(f"{path}:{number}: not JSON ({reason}): {_short(line)}") from error
        yield _object(row, f"{path}:{number}")


def _json(path: Path, file: IO[bytes]) -> Iterator[Row]:
    try:
        value = json.load(io.TextIOWrapper(file, encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        hint = "; one object a line is .jsonl" if error.msg == "Extra data" else ""
        raise ValueError(
            f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg}){hint}"
        ) from error
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise ValueError(f'{path}: must hold a list of rows, or {{"data": [rows]}}')
    for number, row in enumerate(value, start=1):
        yield _object(row, f"{path}: row {number}")


def _csv(path: Path, file: IO[bytes], delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(_CSV_FIELD_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"{path}:1: two columns are called '{doubled[0]}'")
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise ValueError(
                    f"{path}:{reader.line_num}: {len(values)} values, but the first line names "
                    f"{len(names)} columns"
                )
            yield dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _tsv(path: Path, file: IO[bytes]) -> Iterator[Row]:
    return _csv(path, file, "\t")


def _parquet(path: Path, file: IO[bytes]) -> Iterator[Row]:
    import pyarrow  # noqa: PLC0415  heavy: only those who read Parquet load it
    import pyarrow.parquet  # noqa: PLC0415

    packed = path.suffix.lower() == ".gz"
    try:
        # Parquet is read from its end, which a gzip stream does not offer: unpack it first.
        table = pyarrow.parquet.ParquetFile(io.BytesIO(file.read()) if packed else path)
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a Parquet file that can be read ({reason})") from error


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(
            f'{where}: a row must be an object such as {{"prompt": ...}}: {_short(row)}'
        )
    return row


def _short(value: Any) -> str:
    text = (value if isinstance(value, str) else json.dumps(value)).strip()
    return text if len(text) <= 60 else text[:57] + "..."
