"""A curve is what its definition says, however its points lie: in chunks, in small blocks, in full ones."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import blocks
from orchestrator.selectors.points import points_stored
from orchestrator.selectors.series import cursor_of, points_after, series_read
from orchestrator.services.compaction import pack
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import T0, push

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db

GRAIN_BITS = 2
Logged = tuple[int, int, int, float, float]
"""attempt, seq, step, time, value"""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 points, picks for each 4 of them: small data meets every border."""
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.setattr(blocks, "GRAIN_BITS", GRAIN_BITS)
    monkeypatch.setattr(blocks, "GRAIN", 1 << GRAIN_BITS)


class History:
    """A run of several attempts that resume, log steps again, skip steps and come late; packed now and then."""

    def __init__(self, run: Run, seed: int) -> None:
        self.run = run
        self.chance = random.Random(seed)
        self.logged: dict[str, list[Logged]] = {"loss": [], "eval/loss": [], "num_tokens": []}
        self.seqs: dict[int, int] = {}
        self.steps: dict[int, int] = {}

    def play(self, pushes: int) -> None:
        self.resume(1, 0)
        for _ in range(pushes):
            attempt = max(self.seqs)
            if attempt < 4 and self.chance.random() < 0.1:
                self.resume(attempt + 1, self.chance.randint(0, self.steps[attempt]))
            elif attempt > 1 and self.chance.random() < 0.15:
                self.push(self.chance.randint(1, attempt))
            else:
                self.push(attempt)
            if self.chance.random() < 0.3:
                pack(run_id=self.run.pk, attempt=self.chance.choice(list(self.seqs)))

    def resume(self, attempt: int, step: int) -> None:
        if attempt > 1:
            attempt_add(self.run, attempt)
        self.seqs[attempt], self.steps[attempt] = 0, step
        self.push(attempt)

    def push(self, attempt: int) -> None:
        events = []
        for _ in range(self.chance.randint(1, 30)):
            self.seqs[attempt] += 1
            # Now and then a step is logged twice, or a writer jumps back.
            self.steps[attempt] += self.chance.choice([1, 1, 1, 1, 1, 0, 3])
            if self.chance.random() < 0.01:
                self.steps[attempt] = max(0, self.steps[attempt] - 5)
            events.append(self.line(attempt, self.seqs[attempt], self.steps[attempt]))
        push(self.run, events, attempt=attempt)

    def line(self, attempt: int, seq: int, step: int) -> dict[str, Any]:
        # The clock of a resumed attempt is behind now and then.
        time = T0 + 50 * attempt + seq - 120 * (attempt == 3)
        odd = self.chance.choice(["NaN", "Infinity", "-Infinity", 0.0, 1e9])
        value = odd if self.chance.random() < 0.1 else self.chance.gauss(0, 1)
        values = {"loss": value, "num_tokens": 10.0 * step}
        if step % 7 == 0:
            values["eval/loss"] = float(seq)
        for key, number in values.items():
            self.logged[key].append((attempt, seq, step, time, float(number)))
        return {"seq": seq, "time": time, "type": "metrics", "step": step, "values": values}

    def curve(
        self,
        key: str,
        axis: str,
        most: int,
        start: float | None,
        end: float | None,
        attempt: int | None,
        upto: tuple[int, int] | None,
    ) -> dict[str, Any]:
        """The curve by its definition, point by point."""
        points = sorted(self.logged[key])
        if attempt is not None:
            points = [point for point in points if point[0] == attempt]
        if upto is not None:
            points = [point for point in points if point[:2] <= upto]
        numbers, base = {}, 0
        for each in sorted({point[0] for point in points}):
            mine = [point for point in points if point[0] == each]
            numbers |= {point[:2]: base + place for place, point in enumerate(mine)}
            base += math.ceil(len(mine) / 4) * 4
        newest = {point[2]: point for point in points}
        place = {"step": 2, "time": 3, "tokens": 2}[axis]
        scale = 10 if axis == "tokens" else 1
        low = -math.inf if start is None else start
        high = math.inf if end is None else end
        shown = sorted(
            (point for point in newest.values() if low <= scale * point[place] <= high),
            key=lambda point: numbers[point[:2]],
        )
        drawn = self.thin(shown, numbers, most, place if axis != "tokens" else 2)
        drawn.sort(key=lambda point: (scale * point[place], numbers[point[:2]]))
        return {
            "x": [scale * point[place] for point in drawn],
            "y": [blank(point[4]) for point in drawn],
            "total": len(shown),
            "nan": sum(math.isnan(point[4]) for point in shown),
            "reduced": len(shown) > most,
        }

    def thin(
        self, shown: list[Logged], numbers: dict[Any, int], most: int, place: int
    ) -> list[Logged]:
        if len(shown) <= most:
            return shown
        room = max(1, most // 8)
        bits = 0
        while len({numbers[point[:2]] >> bits for point in shown}) > room:
            bits += 1
        kept: set[Logged] = set()
        buckets: dict[int, list[Logged]] = {}
        for point in shown:
            buckets.setdefault(numbers[point[:2]] >> bits, []).append(point)
        for bucket in buckets.values():
            known = [point for point in bucket if not math.isnan(point[4])]
            holes = [point for point in bucket if math.isnan(point[4])]
            kept |= {*known[:1], *known[-1:], *holes[:1], *holes[-1:]}
            if known:
                kept |= {min(known, key=lambda p: p[4]), max(known, key=lambda p: p[4])}
            count = numbers[bucket[-1][:2]] - numbers[bucket[0][:2]] + 1
            if count > 2 and len(bucket) > 1:
                pairs = list(itertools.pairwise(bucket))
                before, after = max(pairs, key=lambda pair: pair[1][place] - pair[0][place])
                leap = after[place] - before[place]
                rest = (bucket[-1][place] - bucket[0][place] - leap) / (count - 2)
                if leap > 0 and leap >= 4 * rest:
                    kept |= {before, after}
        return list(kept)


def blank(value: float) -> float | str:
    return (
        value
        if math.isfinite(value)
        else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_curve_is_what_its_definition_says(run: Run, seed: int) -> None:
    history = History(run, seed)
    history.play(40)
    chance = history.chance
    for _ in range(25):
        axis = chance.choice(["step", "step", "time", "tokens"])
        reach = max(history.steps.values()) * (10 if axis == "tokens" else 1)
        start, end = sorted(chance.uniform(0, reach) for _ in range(2))
        if axis == "time":
            start, end = start + T0, end + T0
        words: dict[str, Any] = {
            "most": chance.choice([8, 16, 40, 80, 1500]),
            "start": chance.choice([None, start]),
            "end": chance.choice([None, end]),
            "attempt": chance.choice([None, None, None, 1, max(history.seqs)]),
        }
        upto = None
        # Tokens are those of all attempts, as the axis is one for all of them.
        if axis == "tokens":
            words["attempt"] = None
        elif chance.random() < 0.3:
            newest = chance.choice(list(history.seqs))
            upto = (newest, chance.randint(0, history.seqs[newest]))
        key = chance.choice(["loss", "eval/loss"])
        found = series_read(
            run=run,
            keys=[key],
            x=axis,
            points=words["most"],
            start=words["start"],
            end=words["end"],
            attempt=words["attempt"],
            upto=upto and {"attempt": upto[0], "seq": upto[1]},
        )[key]
        expected = history.curve(key, axis, upto=upto, **words)
        assert {name: found[name] for name in expected} == expected, (axis, words, upto)


@pytest.mark.parametrize("seed", range(5))
def test_packing_changes_no_curve_and_no_stored_point(run: Run, seed: int) -> None:
    history = History(run, 1000 + seed)
    history.play(30)
    keys = list(history.logged)

    def pictures() -> list[Any]:
        return [
            series_read(run=run, keys=keys, x=axis, points=most)
            for axis in ("step", "time", "tokens")
            for most in (8, 24, 100, 2000)
        ]

    before = pictures()
    for _ in range(3):
        for attempt in history.seqs:
            pack(run_id=run.pk, attempt=attempt)
        assert pictures() == before
    for key, parts in points_stored(run, keys).items():
        found = [
            (attempt, *point)
            for attempt, points in parts
            for point in points[["seq", "step", "time", "value"]].tolist()
        ]
        assert str(found) == str(sorted(history.logged[key], key=lambda p: p[:2]))


@pytest.mark.parametrize("seed", range(5))
def test_deltas_are_what_came_behind_the_cursor(run: Run, seed: int) -> None:
    history = History(run, 2000 + seed)
    history.play(30)
    end = cursor_of(run)
    for _ in range(20):
        attempt = history.chance.choice(list(history.seqs))
        after = (attempt, history.chance.randint(0, history.seqs[attempt]))
        words = {"attempt": after[0], "seq": after[1]}
        deltas, upto = points_after(run=run, keys=["loss"], after=words)
        expected = [
            [step, blank(value), time]
            for number, seq, step, time, value in sorted(
                history.logged["loss"], key=lambda p: p[:2]
            )
            if (number, seq) > after
        ]
        assert upto == end
        assert deltas.get("loss", []) == expected
