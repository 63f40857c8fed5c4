"""Reading tables from files."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pyarrow
import pyarrow.parquet
import pytest

from trainer.tables import columns_of, format_of, rows_count, rows_preview, table_rows

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"prompt": "1+1", "answer": "2"}, {"prompt": "größer\n„x“", "answer": "0042"}]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "csv":
        path.write_text('prompt,answer\n1+1,2\n"größer\n„x“",0042\n')
    elif kind == "tsv":
        path.write_text('prompt\tanswer\n1+1\t2\n"größer\n„x“"\t0042\n')
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str, packed: bool) -> None:
    path = written(tmp_path, kind)
    if packed:
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    assert list(table_rows(path)) == ROWS
    assert rows_preview(path, 1) == ROWS[:1]
    assert columns_of(path) == ["prompt", "answer"]
    assert rows_count(path) == 2


def test_json_may_wrap_its_rows_in_data(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": ROWS}))
    assert list(table_rows(path)) == ROWS


def test_a_byte_order_mark_and_blank_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "x"}\n\n  \n{"prompt": "y"}\r\n')
    assert list(table_rows(path)) == [{"prompt": "x"}, {"prompt": "y"}]


def test_a_name_given_by_a_format_needs_no_suffix(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text('{"prompt": "x"}\n')
    assert rows_preview(path, format="jsonl") == [{"prompt": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b"", "a.jsonl: the file is empty"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', "a.jsonl:2: a row must be an object"),
        ("a.jsonl", b"\xff\xfe\x00", "not UTF-8 text; save it as UTF-8"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "it is gzip: name it .gz"),
        ("a.jsonl.gz", b"plain", "not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 9999, mtime=0)[:-20], "not a whole gzip file"),
        ("a.json", b'{"rows": []}', "must hold a list of rows"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "one object a line is .jsonl"),
        ("a.json", b"[1]", "row 1: a row must be an object"),
        ("a.csv", b"a,b\n1,2,3\n", "a.csv:2: 3 values, but the first line names 2 columns"),
        ("a.csv", b"a,a\n1,2\n", "a.csv:1: two columns are called 'a'"),
        ("a.csv", b'a,b\n"1,2\n', "a.csv:2: not CSV"),
        ("a.parquet", b"nothing of the kind", "not a Parquet file"),
        ("a.xlsx", b"x", "not a kind of file that can be read; use .jsonl"),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        list(table_rows(path))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        list(table_rows(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(ValueError, match="a folder; name a file in it"):
        list(table_rows(tmp_path / "b.jsonl"))


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 10_000_000, mtime=0))
    with pytest.raises(ValueError, match="more than 1,000,000 bytes when decompressed"):
        list(table_rows(path, most_bytes=1_000_000))


def test_a_preview_does_not_read_further_than_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 20 + "broken\n")
    assert len(rows_preview(path)) == 20
    with pytest.raises(ValueError, match=r"a\.jsonl:21"):
        rows_count(path)


def test_the_format_is_read_off_the_name() -> None:
    assert format_of("X.JSONL.GZ") == "jsonl"
    assert format_of("a.b.parquet") == "parquet"
