"""What a scripted writer journals: drawn from a seed, so that writer and check know it independently."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass
from typing import Any

ALWAYS = ("loss", "reward", "grad_norm")
SOMETIMES = "eval/größe 量"
"""A name that is not ASCII: a torn line may end within a character."""
ODD = (
    *(math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 2.2250738585072014e-308),
    *(1.7976931348623157e308, -1.7976931348623157e308, 0.1 + 0.2, 2.0**53 + 2, 1 / 3),
)


@dataclass(frozen=True)
class Line:
    """One event of a journal."""

    type: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Script:
    """A run of several attempts whose trainers report `points` values in all."""

    seed: int
    points: int

    @property
    def attempts(self) -> int:
        """Process starts of this run; each but the last one crashes."""
        return 3 if self.seed % 4 == 3 else 2

    def trainer(self) -> dict[int, list[Line]]:
        """The trainer's journal of each attempt."""
        chance = random.Random(self.seed)
        values = self._values(chance)
        cuts = sorted(
            chance.sample(range(len(values) // 5, len(values) * 4 // 5), self.attempts - 1)
        )
        found: dict[int, list[Line]] = {}
        step = 0
        for attempt, (start, end) in enumerate(
            zip([0, *cuts], [*cuts, len(values)], strict=True), 1
        ):
            last = attempt == self.attempts
            found[attempt] = self._attempt(chance, values[start:end], step, last)
            newest = found[attempt][-2].fields["step"]
            # It goes on from an older checkpoint: the steps after that are logged again.
            step = max(0, newest - chance.randrange(1, max(2, (end - start) // 2)))
        return found

    def _values(self, chance: random.Random) -> list[dict[str, float]]:
        lines: list[dict[str, float]] = []
        left = self.points
        while left > 0:
            keys = [*ALWAYS, SOMETIMES] if chance.random() < 0.5 else list(ALWAYS)
            lines.append({key: number(chance) for key in keys[:left]})
            left -= len(lines[-1])
        return lines

    def _attempt(
        self, chance: random.Random, values: list[dict[str, float]], step: int, last: bool
    ) -> list[Line]:
        lines = [Line("status", {"state": "running", "expect_next_in": 60.0, "step": step})]
        for number, found in enumerate(values):
            # Now and then a step is logged twice within an attempt; the later line counts.
            step += chance.random() > 0.02 or not number
            lines.append(Line("metrics", {"step": step, "values": found, "expect_next_in": 60.0}))
            if chance.random() < 0.02:
                lines.append(Line("log", {"lines": [f"at step {step}", "é\x1b[0m ☃"]}))
            if chance.random() < 0.02:
                alert = {"level": "info", "code": "odd", "message": f"odd at step {step}"}
                lines.append(Line("alert", alert))
        # A step without a single value is a line of the stream like any other.
        lines.append(Line("metrics", {"step": step, "values": {}, "expect_next_in": 60.0}))
        state, cause = ("finished", "finished") if last else ("failed", "killed")
        lines.append(Line("status", {"state": state, "cause": cause, "message": ""}))
        return lines

    def samples(self, attempt: int) -> list[Line]:
        """The samples journal of an attempt: few lines, some of them bulky."""
        chance = random.Random(f"{self.seed}-{attempt}-samples")
        return [
            Line(
                "sample",
                {
                    **{"step": place, "prompt_id": f"p{place}", "group": attempt},
                    **{"prompt": "1+1=", "completion": "x" * chance.choice((10, 2_000, 60_000))},
                    **{"reward": number(chance), "finish_reason": "stop"},
                },
            )
            for place in range(1, 1 + max(3, self.points // 400))
        ]

    def points_journalled(self) -> dict[tuple[int, int, str], tuple[int, float]]:
        """Every point by attempt, seq and name: its step and value."""
        return {
            (attempt, seq, key): (line.fields["step"], float(value))
            for attempt, lines in self.trainer().items()
            for seq, line in enumerate(lines, 1)
            if line.type == "metrics"
            for key, value in line.fields["values"].items()
        }

    def curves(self, attempt: int | None = None) -> dict[str, dict[int, float]]:
        """What charts show: of a step logged again the newest attempt's last word, or that of one attempt."""
        curves: dict[str, dict[int, float]] = {}
        for (number, _, key), (step, value) in sorted(self.points_journalled().items()):
            if attempt in (None, number):
                curves.setdefault(key, {})[step] = value
        return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def number(chance: random.Random) -> float:
    """A float64: mostly any bit pattern, often a plain or an odd one."""
    kind = chance.random()
    if kind < 0.08:
        return chance.choice(ODD)
    if kind < 0.5:
        return chance.random()
    if kind < 0.55:
        return float(chance.randrange(-5, 5))
    found: float = struct.unpack("<d", chance.randbytes(8))[0]
    return found


def bits(value: float) -> bytes:
    """The eight bytes of a number; every NaN is the same one, because JSON knows only one."""
    return struct.pack("<d", math.nan if math.isnan(value) else value)
