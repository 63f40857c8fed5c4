"""One storm over a fleet of scripted runs, and the comparison of what is stored with what was scripted."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

from orchestrator import postgres
from tests.chaos.script import bits
from tests.chaos.stored import stored
from trainer.events import number_decode
from trainer.journal import read_events

if TYPE_CHECKING:
    import random

    from tests.chaos.fleet import Fleet, Voyage
    from tests.chaos.stack import Stack

WINDOW = 1500  # steps of one question for a curve


@dataclass
class Storm:
    """kill -9 of whatever is named, at random moments."""

    fleet: Fleet
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    @property
    def stack(self) -> Stack:
        return self.fleet.stack

    def blow(self, victims: list[str], seconds: float) -> None:
        """Kill each victim once, in random order, within about so many seconds."""
        order = self.chance.sample(victims, len(victims))
        moments = sorted(self.chance.uniform(0, seconds) for _ in order)
        begun = time.monotonic()
        for victim, moment in zip(order, moments, strict=True):
            self.fleet.tend_for(max(0.0, begun + moment - time.monotonic()))
            self.kill(victim)
            voyage = self.chance.choice(self.fleet.voyages)
            assert_prefix(self.stack, voyage)

    def kill(self, victim: str) -> None:
        """Kill it as soon as it is there to be killed."""
        deadline = time.monotonic() + 20
        while not self._kill(victim):
            assert time.monotonic() < deadline, f"no {victim} to kill:\n{self.stack.said()}"
            self.fleet.tend_for(0.1)
        self.killed[victim] += 1

    def _kill(self, victim: str) -> bool:
        if victim == "ship":
            return self.fleet.kill_ship(self.chance)
        if victim == "backend":
            return backend_kill(self.stack)
        return self.stack.kill_part(victim)


def backend_kill(stack: Stack) -> bool:
    """kill -9 of a database process that serves somebody; the server ends all others and recovers."""
    with (
        contextlib.suppress(psycopg.Error, ProcessLookupError),
        psycopg.connect(postgres.url(stack.data), connect_timeout=2) as connection,
    ):
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() ORDER BY query_start DESC NULLS LAST LIMIT 1"
        ).fetchone()
        if row is not None:
            os.kill(row[0], signal.SIGKILL)
            return True
    return False


def assert_prefix(stack: Stack, voyage: Voyage) -> None:
    """At any moment: of each journal exactly what lies up to its cursor is stored."""
    now = stored(stack, voyage.run_id)
    lines = voyage.script.trainer()
    for attempt in lines:
        assert now.cursors.get((attempt, "trainer"), 0) <= len(lines[attempt]), voyage.run_id
    expected = {
        place: point
        for place, point in voyage.script.points_journalled().items()
        if place[1] <= now.cursors.get((place[0], "trainer"), 0)
    }
    assert_equal(voyage.run_id, now.points, expected)


def assert_equal(
    run_id: str,
    found: dict[tuple[int, int, str], tuple[int, float]],
    expected: dict[tuple[int, int, str], tuple[int, float]],
) -> None:
    """Count, order and value, to the bit."""
    lost, foreign = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not lost, f"{len(lost)} points of {run_id} are lost, such as {min(lost)}"
    assert not foreign, f"{len(foreign)} points of {run_id} were never logged: {min(foreign)}"
    for place, (step, value) in expected.items():
        there = found[place]
        same = there[0] == step and bits(there[1]) == bits(value)
        assert same, f"{run_id} {place} is {there}, logged as {(step, value)}"


def assert_everything_arrived(fleet: Fleet) -> int:
    """Every scripted line of every run is there exactly once; how many points that are."""
    count = 0
    for voyage in fleet.voyages:
        assert_prefix(fleet.stack, voyage)
        now = stored(fleet.stack, voyage.run_id)
        _assert_cursors(voyage, now.cursors)
        expected = voyage.script.points_journalled()
        assert_equal(voyage.run_id, now.points, expected)
        _assert_samples(fleet.stack, voyage)
        _assert_log(fleet.stack, voyage)
        assert_curves(fleet.stack, voyage)
        count += len(expected)
    for voyage in fleet.voyages:
        run = fleet.stack.run(voyage.run_id)
        assert (run["state"], run["attempt"]) == ("finished", voyage.script.attempts), run
    return count


def _assert_cursors(voyage: Voyage, cursors: dict[tuple[int, str], int]) -> None:
    for attempt, lines in voyage.script.trainer().items():
        host = sum(1 for _ in read_events(voyage.run.attempt(attempt).journal("host")))
        scripted = {
            "trainer": len(lines),
            "samples": len(voyage.samples_written(attempt)),
            "host": host,
        }
        for source, length in scripted.items():
            there = cursors.get((attempt, source), 0)
            where = f"{source} of attempt {attempt} of {voyage.run_id}"
            assert there == length, f"{there} of {length} lines of the {where} arrived"


def _assert_samples(stack: Stack, voyage: Voyage) -> None:
    rows = stack.query(
        "SELECT attempt, seq, step, completion, reward FROM orchestrator_sample"
        " WHERE run_id = %s ORDER BY attempt, seq",
        voyage.run_id,
    )
    expected = [
        (attempt, seq, line.fields["step"], line.fields["completion"], bits(line.fields["reward"]))
        for attempt in voyage.script.trainer()
        for seq, line in enumerate(voyage.samples_written(attempt), 1)
    ]
    assert [(*row[:4], bits(row[4])) for row in rows] == expected, f"samples of {voyage.run_id}"


def _assert_log(stack: Stack, voyage: Voyage) -> None:
    rows = stack.query(
        "SELECT attempt, seq, number, text FROM orchestrator_logline"
        " WHERE run_id = %s AND source = 'trainer' ORDER BY attempt, seq, number",
        voyage.run_id,
    )
    expected = [
        (attempt, seq, number, text)
        for attempt, lines in voyage.script.trainer().items()
        for seq, line in enumerate(lines, 1)
        if line.type == "log"
        for number, text in enumerate(line.fields["lines"])
    ]
    assert [tuple(row) for row in rows] == expected, f"log of {voyage.run_id}"


def assert_curves(stack: Stack, voyage: Voyage) -> None:
    """REST shows each series with its re-logged steps superseded, every value as it was logged."""
    for key, curve in voyage.script.curves().items():
        found: list[tuple[int, float]] = []
        for start in range(0, max(curve) + 1, WINDOW):
            words = f"keys={quote(key)}&points=2000&from={start}&to={start + WINDOW - 1}"
            shown = stack.call("GET", f"/runs/{voyage.run_id}/series?{words}")[key]
            assert not shown["reduced"]
            ys = [number_decode(y) for y in shown["y"]]
            found += zip(map(int, shown["x"]), ys, strict=True)
        expected = sorted(curve.items())
        assert [x for x, _ in found] == [x for x, _ in expected], f"{key} of {voyage.run_id}"
        wrong = [
            (have, want)
            for have, want in zip(found, expected, strict=True)
            if bits(have[1]) != bits(want[1])
        ]
        assert not wrong, f"{key} of {voyage.run_id}: {wrong[:3]}"
