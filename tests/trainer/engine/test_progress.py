"""What a report promises: by the part of the step that is at work, from what was seen of it in this run."""

from __future__ import annotations

import errno
import json
import os

import pytest

from trainer.engine import progress
from trainer.engine.clock import Clock
from trainer.engine.failure import Verdict
from trainer.engine.progress import Report
from trainer.journal import read_events
from trainer.rundir import RunDir
from trainer.stall import Told, doing_read
from trainer.verdict import verdict_of_exit


class Time:
    """A clock that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Time()
    monkeypatch.setattr(progress, "time", found)
    return found


@pytest.fixture
def report(tmp_path, clock):
    return Report(RunDir(tmp_path).attempt(1))


def lines(report: Report) -> list[dict]:
    return list(read_events(report.journal.path))


def works(report: Report, clock: Time, part: str, *ticks: float) -> None:
    """Be in a part of a step, with ticks so many seconds apart."""
    report.enter(part)
    for seconds in ticks:
        clock.now += seconds
        report.tick()
    report.enter("other")


def test_the_promise_is_that_of_the_part_at_work(report, clock):
    report.status("train")
    works(report, clock, "rollout", 30.0)
    works(report, clock, "update", 5.0)
    beats = {one["part"]: one for one in lines(report)}
    assert beats["rollout"]["expect_next_in"] == 3 * 30 + 4
    assert "longest silence of this run in it, 30 s" in beats["rollout"]["because"]
    assert beats["update"]["expect_next_in"] == 64
    assert beats["rollout"]["phase"] == beats["update"]["phase"] == "train"


def test_a_part_that_may_be_silent_for_longer_is_announced(report, clock):
    report.status("train")
    works(report, clock, "rollout", 100.0)
    works(report, clock, "update", 5.0)
    before = len(lines(report))
    report.enter("rollout")
    (line,) = lines(report)[before:]
    assert (line["part"], line["expect_next_in"]) == ("rollout", 184.0)


def test_quick_steps_of_equal_parts_write_no_line_for_each(report, clock):
    report.status("train")
    for _ in range(200):
        for part in ("data", "rollout", "reward", "update"):
            works(report, clock, part, 0.01)
    # 8 s of work: a heartbeat now and then, and not one for each of 800 parts.
    assert len(lines(report)) <= 4


def test_the_due_moment_is_never_broken_by_what_was_announced(report, clock):
    """At each moment the standing promise covers what the part at work is expected to take."""
    report.status("train")
    told, at = 0.0, clock.now
    for turn in range(300):
        for part, gap in (("rollout", 0.1 + turn % 7), ("update", 0.2), ("reward", turn % 3)):
            report.enter(part)
            for line in lines(report)[-1:]:
                told, at = line["expect_next_in"], report._last_line
            assert at + told >= clock.now + report.expectations.of(part) - 0.1
            clock.now += gap
            report.tick()


def test_where_it_is_stands_in_a_file_without_a_line_for_each_part(report, clock, tmp_path):
    report.status("train")
    works(report, clock, "rollout", 0.1)
    report.enter("reward")
    found = doing_read(tmp_path / "attempt-1" / "doing", Told("train"))
    assert (found.phase, found.promise) == ("reward", 64.0) and "first guess" in found.because
    report.status("eval")
    report.part = ""
    assert len(lines(report)) == 2


def test_a_warm_up_is_a_phase_of_its_own(report, clock):
    report.status("warm-up")
    works(report, clock, "update", 30.0)
    report.status("train")
    report.enter("update")
    assert (report.doing, report.expectations.of(report.doing)) == ("update", 60)
    assert report.expectations.of("warm-up/update") == 90


def test_a_later_attempt_knows_what_an_earlier_one_saw(report, clock, tmp_path):
    report.status("train")
    clock.now += 20
    works(report, clock, "rollout", 50.0)
    kept = json.loads((tmp_path / "expectations.json").read_text())
    assert kept["longest"]["rollout"] == 50
    later = Report(RunDir(tmp_path).attempt(2))
    later.status("train")
    later.enter("rollout")
    assert lines(later)[-1]["expect_next_in"] == 154


def test_what_is_learned_is_not_written_over_and_over(report, clock, tmp_path):
    report.status("train")
    clock.now += 20
    works(report, clock, "rollout", 50.0)
    stamp = (tmp_path / "expectations.json").stat().st_mtime_ns
    for _ in range(50):
        works(report, clock, "rollout", 5.0)
    assert (tmp_path / "expectations.json").stat().st_mtime_ns == stamp


def test_a_disk_that_takes_nothing_costs_the_run_nothing(report, clock, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "expectations_write", full)
    report.status("train")
    clock.now += 20
    works(report, clock, "rollout", 50.0)
    assert lines(report)[-1]["part"] == "rollout"


def test_the_clock_tells_which_part_begins_and_goes_on():
    told: list[str] = []
    clock = Clock()
    clock.entered = told.append
    with clock.part("rollout"):
        with clock.part("reward"):
            pass
        clock.spent("rollout")
    clock.lap()
    assert told == ["rollout", "reward", "rollout", "other"]


def test_a_short_promise_beats_more_often(tmp_path, monkeypatch, clock):
    monkeypatch.setenv("ANNEAL_PROMISE", "8")
    report = Report(RunDir(tmp_path).attempt(1))
    report.status("train")
    clock.now += 1.0
    report.tick()
    assert [one["expect_next_in"] for one in lines(report)] == [9, 9]


def test_spans_of_any_process_become_a_line_of_the_journal(report):
    now = 5.0
    report.spans(3, "trainer", [("rollout", now, now + 0.4), ("update", now + 0.4, now + 1.0)])
    report.spans(3, "generator 0", [("rollout", now, now + 1.0)], folded=7)
    one, other = lines(report)
    assert (one["type"], one["step"], one["process"], one["steps"]) == ("spans", 3, "trainer", 1)
    assert one["spans"] == [["rollout", 0.0, 0.4], ["update", 0.4, 1.0]] and "folded" not in one
    assert (other["process"], other["folded"]) == ("generator 0", 7)


def test_where_the_journal_takes_no_last_line_the_verdict_is_the_last_word_printed(
    report, monkeypatch, capsys
):
    """Host finds no last line in the journal then, and reads the log instead."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(report.journal, "append", full)
    report.end(Verdict("failed", "disk", "the disk is full; free space, then resume"))
    *before, last = capsys.readouterr().err.splitlines()
    assert last == "failed: the disk is full; free space, then resume"
    assert any("the journal could not be closed" in line for line in before)
    assert verdict_of_exit(1, [*before, last], oom_killed=False).message.endswith(last)
