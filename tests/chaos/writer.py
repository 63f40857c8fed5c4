"""Journals one scripted attempt over time: `python -m tests.chaos.writer --dir D --attempt K ...`.

It stands for trainer and host. Now and then it dies in the middle of a line, as a killed process would,
and opens the journal again.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.script import Line, Script
from trainer.events import encode
from trainer.journal import Journal
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from trainer.events import Source
    from trainer.rundir import AttemptDir

TICK = 0.02  # seconds
TEARS = 6  # torn lines in an attempt


class Pen:
    """A journal whose writer may die within a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path)

    def write(self, line: Line) -> None:
        self.journal.append(line.type, **line.fields)

    def tear(self, line: Line, chance: random.Random) -> None:
        """Leave part of a line behind, or a whole one without its end, and open the journal again."""
        event = {"seq": self.journal.seq + 1, "time": 1.0, "type": line.type, **line.fields}
        if "values" in event:
            event["values"] = dict.fromkeys(event["values"], 666.0)
        data = encode(event).encode()
        cut = chance.choice((1, chance.randrange(1, len(data)), len(data), len(data)))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, data[:cut])
        os.close(descriptor)
        # Long enough for a reader to see it.
        time.sleep(0.2)
        self.journal = Journal(self.path)


def write(attempt: AttemptDir, script: Script, seconds: float) -> None:
    """Write the attempt's journals within about so many seconds."""
    chance = random.Random(f"{script.seed}-{attempt.number}-writer")
    pens = {source: Pen(attempt.journal(source)) for source in ("trainer", "samples", "host")}
    lines = _shuffled(script, attempt.number, chance)
    torn = set(chance.sample(range(len(lines)), min(TEARS, len(lines))))
    begun = time.monotonic()
    for place, (source, line) in enumerate(lines):
        due = begun + seconds * place / len(lines)
        if (wait := due - time.monotonic()) > TICK:
            time.sleep(wait)
        if place in torn:
            pens[source].tear(line, chance)
        pens[source].write(line)
    word = lines[-1][1].fields
    pens["trainer"].journal.close()
    pens["samples"].journal.close()
    pens["host"].write(Line("status", {**word, "exit_code": 0, "log": []}))
    pens["host"].journal.close()


def _shuffled(script: Script, attempt: int, chance: random.Random) -> list[tuple[Source, Line]]:
    """The lines of all journals as they come: each journal keeps its own order."""
    lines: list[tuple[Source, Line]] = [("trainer", line) for line in script.trainer()[attempt]]
    others: list[tuple[Source, Line]] = [("samples", line) for line in script.samples(attempt)]
    others += [("host", Line("heartbeat", {"expect_next_in": 60.0})) for _ in range(5)]
    places = sorted(chance.sample(range(1, len(lines)), min(len(others), len(lines) - 1)))
    for place, other in reversed(list(zip(places, others, strict=False))):
        lines.insert(place, other)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the run's directory")
    for name in ("attempt", "seed", "points"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="how long to write")
    words = parser.parse_args()
    attempt = RunDir(words.dir).attempt(words.attempt)
    write(attempt, Script(words.seed, words.points), words.seconds)


if __name__ == "__main__":
    main()
