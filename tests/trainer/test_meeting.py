"""Who is let in to a meeting, what the machines tell each other, and that none outlives the others."""

from __future__ import annotations

import json
import socket
import time

import pytest

from trainer.gang import Gang
from trainer.meeting import Line, Meeting
from trainer.verdict import Verdict

NAMES = ("east", "west", "north")
SECRET = "known to three"


def wait_for(happened, seconds: float = 5.0):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def member(index: int, secret: str = SECRET) -> Gang:
    return Gang(index, NAMES, "127.0.0.1", secret)


@pytest.fixture
def worked() -> list[int]:
    return []


@pytest.fixture
def meeting(worked):
    found = Meeting(member(0), 3, 4711, worked.append)
    yield found
    found.end(Verdict("stopped", "user", "the test is over"))


def line(meeting: Meeting, index: int, *, attempt: int = 3, secret: str = SECRET) -> Line:
    return Line(member(index, secret), attempt, "127.0.0.1", meeting.port)


def both(meeting: Meeting) -> tuple[Line, Line]:
    lines = line(meeting, 1), line(meeting, 2)
    wait_for(lambda: not meeting.missing())
    return lines


def test_all_come_and_then_hear_where_their_processes_meet(meeting):
    first = line(meeting, 1)
    wait_for(lambda: meeting.missing() == ["north"])
    assert first.store == 0
    second = line(meeting, 2)
    wait_for(lambda: not meeting.missing())
    meeting.begin()
    wait_for(lambda: first.store == second.store == 4711)


@pytest.mark.parametrize(
    "hello",
    [
        {"secret": "guessed", "attempt": 3, "index": 1},
        {"secret": SECRET, "attempt": 2, "index": 1},
        {"secret": SECRET, "attempt": 3, "index": 0},
        {"secret": SECRET, "attempt": 3, "index": 3},
        {"secret": None, "attempt": 3, "index": 1},
        ["secret"],
    ],
)
def test_strangers_and_other_attempts_are_not_let_in(meeting, hello):
    with socket.create_connection(("127.0.0.1", meeting.port)) as stranger:
        stranger.sendall(json.dumps(hello).encode() + b"\n")
        stranger.settimeout(5)
        assert stranger.recv(100) == b""
    assert meeting.missing() == ["west", "north"]
    assert meeting.lost() is None


def test_a_second_one_of_the_same_place_is_not_let_in(meeting):
    first = line(meeting, 1)
    wait_for(lambda: meeting.missing() == ["north"])
    second = line(meeting, 1)
    wait_for(lambda: second.end is not None)
    assert first.end is None and meeting.lost() is None


def test_that_a_machine_works_is_told(meeting, worked):
    _, north = both(meeting)
    north.works()
    wait_for(lambda: worked == [2])


def test_the_first_ones_end_is_told_to_all(meeting):
    lines = both(meeting)
    meeting.end(Verdict("finished", "budget", "all steps done"))
    for one in lines:
        wait_for(lambda one=one: one.end is not None)
        assert one.end == Verdict("finished", "budget", "all steps done")
    assert meeting.lost() is None


def test_a_machine_that_leaves_without_a_word_is_named(meeting):
    west, _ = both(meeting)
    west.close()
    word = wait_for(meeting.lost)
    assert (word.state, word.cause) == ("failed", "killed")
    assert word.message.startswith("west (machine 2 of 3) left without a word")


def test_a_death_is_told_in_its_own_words_and_what_follows_from_it_does_not_hide_it(meeting):
    west, north = both(meeting)
    north.lost(Verdict("failed", "crash", "Rank 2: connection closed"))
    north.close()
    assert meeting.lost() is None, "another one may have caused that"
    west.lost(Verdict("failed", "oom", "Rank 1 on west: out of memory"))
    west.close()
    word = wait_for(meeting.lost)
    assert (word.cause, word.message) == ("oom", "Rank 1 on west: out of memory")


def test_a_crash_that_nothing_else_explains_counts(meeting):
    west, _ = both(meeting)
    west.lost(Verdict("failed", "crash", "Rank 1 on west: a bug"))
    assert wait_for(meeting.lost).message == "Rank 1 on west: a bug"


def test_when_the_first_machine_is_gone_the_others_know():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        west = Line(member(1), 3, "127.0.0.1", port)
        accepted, _ = server.accept()
        accepted.close()
        word = wait_for(lambda: west.end)
    assert (word.state, word.cause) == ("failed", "killed")
    assert word.message.startswith("east (machine 1 of 3)")


def test_nobody_there_is_said(monkeypatch):
    monkeypatch.setattr("trainer.meeting.CONNECT_WITHIN", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port} does not answer"):
        Line(member(1), 3, "127.0.0.1", port)
