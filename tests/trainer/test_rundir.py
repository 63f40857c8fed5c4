"""The run directory: a run is created once, attempts are counted, half a file is never seen."""

from __future__ import annotations

import json
import threading

import pytest

from trainer.rundir import RunDir, write_atomic
from trainer.spec import spec_hash, spec_parse

SPEC = {"objective": {"type": "sft"}, "budget": {"max_steps": 5}}


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def test_a_run_is_created_once(run):
    spec = spec_parse(SPEC)
    assert not run.exists()
    run.create(spec)
    raw = json.loads(run.spec_path.read_text())
    assert raw["sha256"] == spec_hash(raw["spec"]) == spec_hash(spec)
    assert run.spec() == spec
    with pytest.raises(FileExistsError, match="already holds a run"):
        run.create(spec)


def test_a_directory_without_a_run_says_so(run):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        run.spec_raw()
    assert (run.attempts(), run.next_attempt(), run.checkpoint_steps()) == ([], 1, [])


def test_attempts_are_counted_from_what_is_there(run):
    for number in (1, 2, 10):
        run.attempt(number).path.mkdir(parents=True)
    (run.path / "attempt-x").mkdir()
    assert (run.attempts(), run.next_attempt()) == ([1, 2, 10], 11)
    assert run.attempt(3).journal("samples").name == "samples.jsonl"


def test_a_checkpoint_counts_when_it_has_its_manifest(run):
    for name in ("step-2", "step-10", "step-7.tmp-1-99", "other"):
        (run.checkpoints / name).mkdir(parents=True)
    for step in (2, 10):
        (run.checkpoint(step) / "manifest.json").write_text("{}")
    (run.checkpoint(20)).mkdir()
    assert run.checkpoint_steps() == [2, 10]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, stop, seen = tmp_path / "control.json", threading.Event(), set()
    write_atomic(path, json.dumps({"text": "a" * 50_000}))

    def read() -> None:
        while not stop.is_set():
            seen.add(json.loads(path.read_text())["text"][0])

    reader = threading.Thread(target=read)
    reader.start()
    for letter in "bcdefgh":
        write_atomic(path, json.dumps({"text": letter * 50_000}))
    stop.set()
    reader.join()
    assert seen <= set("abcdefgh")
    assert [item.name for item in tmp_path.iterdir()] == ["control.json"]


def test_a_lease_is_for_its_owner_only(tmp_path):
    path = tmp_path / "lease.json"
    write_atomic(path, "{}", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_rollback_takes_back_what_earlier_attempts_saved_behind_its_step(tmp_path):
    run = RunDir(tmp_path)
    for step, text in ((10, '{"attempt": 1}'), (20, '{"attempt": 2}'), (30, "{torn"), (40, "[]")):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "manifest.json").write_text(text)
    assert [step for step in (10, 20, 30) if run.is_void(step, [(1, 5)])] == [10]
    assert [step for step in (10, 20, 30) if run.is_void(step, [(2, 10), (1, 9)])] == [10, 20]
    assert not run.is_void(10, [(1, 10)]) and not run.is_void(50, [(9, 0)])
    assert run.is_void(40, [(1, 5)])


def test_pins_are_kept_and_written_only_when_they_change(run):
    assert run.pins() == frozenset()
    run.pins_write([])
    assert not run.path.exists()
    run.pins_write([30, 10, 10])
    assert run.pins() == {10, 30}
    stamp = (run.path / "pins.json").stat()
    run.pins_write([10, 30])
    assert (run.path / "pins.json").stat() == stamp
    (run.path / "pins.json").write_text("[1, true]")
    with pytest.raises(ValueError, match="is no list of steps"):
        run.pins()
    run.pins_write([10])
    assert run.pins() == {10}
