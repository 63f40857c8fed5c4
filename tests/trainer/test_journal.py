"""The journal: appended lines are whole, numbered, and survive a writer that dies in the middle."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from trainer.events import number_decode
from trainer.journal import Journal, Tail, last_event, read_events


def seqs(path) -> list[int]:
    return [event["seq"] for event in read_events(path)]


def test_lines_are_numbered_and_stamped(tmp_path):
    path = tmp_path / "attempt-1" / "journal.jsonl"
    before = time.time()
    with Journal(path) as journal:
        assert journal.append("metrics", step=1, values={"loss": 0.5}) == 1
        assert journal.append("metrics", step=2, values={"loss": 0.25}) == 2
    first, second = read_events(path)
    assert (first["seq"], first["type"], first["values"]) == (1, "metrics", {"loss": 0.5})
    assert before - 1 <= first["time"] <= second["time"] <= time.time() + 1


def test_a_torn_last_line_is_cut_when_the_file_is_opened_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("metrics", step=1, values={})
    with path.open("a") as file:
        file.write('{"seq":2,"type":"met')
    with Journal(path) as journal:
        assert journal.append("metrics", step=2, values={}) == 2
    assert seqs(path) == [1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_come_back(tmp_path, value):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("metrics", step=1, values={"x": value, "deep": [value]})
    found = json.loads(path.read_text(), parse_constant=pytest.fail)["values"]
    assert repr(number_decode(found["x"])) == repr(value)
    assert repr(number_decode(found["deep"][0])) == repr(value)


def test_what_is_no_number_is_refused():
    for wrong in ("nan", "1", None, True, [], "infinity"):
        with pytest.raises(ValueError, match="not a number"):
            number_decode(wrong)


def test_a_tail_follows_whole_lines_and_seeks(tmp_path):
    path = tmp_path / "journal.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_bytes(b'{"a":1}\n{"b":2}\n{"c"')
    assert tail.read() == ['{"a":1}', '{"b":2}']
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b":3}\n")
    assert (tail.read(), tail.seq) == (['{"c":3}'], 3)
    tail.seek(1)
    assert tail.read(most=1) == ['{"b":2}']
    tail.seek(99)
    assert tail.seq == 3


def test_a_tail_hands_out_a_long_line_whole_and_keeps_batches_small(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("x" * 5000 + "\n" + "y\n" * 10)
    tail = Tail(path)
    assert [len(line) for line in tail.read(most_bytes=100)] == [5000]
    assert len(tail.read(most=4)) == 4


def test_a_full_disk_leaves_the_journal_readable(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("metrics", step=1, values={})
    real = journal._file

    class Full:
        def write(self, data):
            real.write(data[:7])
            return 7

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(journal, "_file", Full())
    with pytest.raises(OSError, match="full"):
        journal.append("metrics", step=2, values={})
    monkeypatch.setattr(journal, "_file", real)
    journal.append("metrics", step=3, values={})
    assert [(event["seq"], event["step"]) for event in read_events(path)] == [(1, 1), (2, 3)]


def test_a_killed_writer_loses_no_line_that_it_had_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys; from pathlib import Path; from trainer.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "while True: print(journal.append('metrics', step=1, values={'x': 1.0}), flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    said += [int(line) for line in writer.stdout.read().split()]
    writer.stdout.close()
    Journal(path).close()
    found = seqs(path)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= said[-1] >= 200
    assert last_event(path)["seq"] == len(found)


def test_writing_a_line_costs_far_less_than_a_millisecond(tmp_path):
    values = {f"metric/{number}": 0.123456789 * number for number in range(40)}
    with Journal(tmp_path / "journal.jsonl") as journal:
        times = []
        for step in range(300):
            begin = time.perf_counter()
            journal.append("metrics", step=step, values=values)
            times.append(time.perf_counter() - begin)
    assert sorted(times)[150] < 0.001
