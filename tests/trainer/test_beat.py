"""Beats: how long the journals are, and an honest estimate of the clocks' difference."""

from __future__ import annotations

import json
import random

import pytest

from trainer import beat
from trainer.beat import Beats, Length
from trainer.journal import Journal
from trainer.rundir import RunDir


@pytest.fixture
def attempt(tmp_path):
    found = RunDir(tmp_path / "run").attempt(1)
    found.path.mkdir(parents=True)
    return found


def test_a_beat_tells_how_long_each_journal_is(attempt):
    with Journal(attempt.journal("trainer")) as journal:
        journal.extend("metrics", [{"step": step, "values": {}} for step in range(5)])
    size = attempt.journal("trainer").stat().st_size
    frame = json.loads(Beats(attempt).frame())
    assert frame["op"] == "beat"
    assert frame["journals"] == {"trainer": [5, size, 0], "samples": [0, 0, 0], "host": [0, 0, 0]}
    assert "clock" not in frame


def test_it_counts_complete_lines_and_only_what_was_added(tmp_path):
    path = tmp_path / "journal.jsonl"
    length = Length(path)
    assert length.look() == [0, 0, 0]
    path.write_bytes(b"a\nb\ntor")
    assert length.look() == [2, 7, 0]
    with path.open("ab") as file:
        file.write(b"n\nc\n")
    assert length.look() == [4, 11, 0]


def test_a_cut_last_line_is_counted_anew(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"a\nb\ntorn")
    length = Length(path)
    length.look()
    path.write_bytes(b"a\nb\n")
    assert length.look() == [2, 4, 0]


def test_a_long_journal_is_counted_over_several_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(beat, "LOOK_BYTES", 10)
    monkeypatch.setattr(beat, "READ_BYTES", 4)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"a\n" * 12)
    length = Length(path)
    assert [length.look() for _ in range(3)] == [[5, 24, 14], [10, 24, 4], [12, 24, 0]]


class Network:
    """Two clocks and a way between them that takes a different time in each direction."""

    def __init__(self, ahead: float) -> None:
        self.now, self.ahead = 1_790_000_000.0, ahead

    def node(self) -> float:
        return self.now + self.ahead

    def exchange(self, beats: Beats, there: float, back: float, work: float = 0.0) -> None:
        sent = json.loads(beats.frame())["sent"]
        self.now += there
        arrived = self.now
        self.now += work
        replied = self.now
        self.now += back
        beats.answered({"op": "ack", "sent": sent, "clock": [arrived, replied]})


@pytest.mark.parametrize("ahead", [0.0, 3.5, -7200.0])
def test_the_clocks_difference_is_within_what_it_says(attempt, ahead):
    network = Network(ahead)
    beats, chance = Beats(attempt, network.node), random.Random(1)
    for _ in range(30):
        network.exchange(beats, chance.uniform(0.001, 0.4), chance.uniform(0.001, 0.4), 0.2)
        offset, within = json.loads(beats.frame())["clock"]
        assert abs(offset - ahead) <= within + 1e-5


def test_the_shortest_round_trip_counts_and_old_ones_are_forgotten(attempt):
    network = Network(2.0)
    beats = Beats(attempt, network.node)
    network.exchange(beats, 0.001, 0.001)
    network.exchange(beats, 0.5, 0.001)
    assert json.loads(beats.frame())["clock"] == pytest.approx([2.0, 0.001], abs=1e-5)
    network.ahead = 5.0  # somebody set the clock
    for _ in range(beat.EXCHANGES_KEPT):
        network.exchange(beats, 0.01, 0.01)
    assert json.loads(beats.frame())["clock"] == pytest.approx([5.0, 0.01], abs=1e-5)


def test_a_server_that_hung_does_not_push_out_what_was_known(attempt):
    """All beats of that while are answered at its end: they seem to have travelled one way for long."""
    network = Network(0.0)
    beats = Beats(attempt, network.node, lambda: network.now)
    network.exchange(beats, 0.001, 0.001)
    sent = []
    for _ in range(12):
        sent.append(json.loads(beats.frame())["sent"])
        network.now += 1.5
    for moment in sent:
        beats.answered({"op": "ack", "sent": moment, "clock": [network.now, network.now]})
    offset, within = json.loads(beats.frame())["clock"]
    assert abs(offset) < 1e-5
    assert within == pytest.approx(0.001 + 18 * beat.DRIFT, abs=1e-5)


def test_what_is_known_of_a_clock_fades(attempt):
    network = Network(0.0)
    beats = Beats(attempt, network.node, lambda: network.now)
    network.exchange(beats, 0.001, 0.001)
    network.now += 1000
    network.ahead = 0.08  # as far as clocks may drift in that time
    network.exchange(beats, 0.02, 0.02)
    offset, within = json.loads(beats.frame())["clock"]
    assert (offset, within) == pytest.approx((0.08, 0.02), abs=1e-5)


@pytest.mark.parametrize(
    "answer",
    [
        {"op": "ack"},
        {"op": "ack", "sent": 1.0},
        {"op": "ack", "sent": "x", "clock": [1, 2]},
        {"op": "ack", "sent": 1.0, "clock": 3},
        {"op": "ack", "sent": 1.0, "clock": [1]},
        {"op": "ack", "sent": 1.0, "clock": [1, "Infinity"]},
    ],
)
def test_an_answer_without_clocks_teaches_nothing(attempt, answer):
    beats = Beats(attempt)
    beats.answered(answer)
    assert "clock" not in json.loads(beats.frame())
