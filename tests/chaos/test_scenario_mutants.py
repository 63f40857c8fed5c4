"""The scenarios notice what they are there for: each mutant of states is caught by one that passes without it.

`ANNEAL_SCALE=1` plants all of them, and carries the same scenarios out without any; else it is one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos import lane
from tests.chaos.arena import Arena
from tests.chaos.mutants import STATES
from tests.chaos.scenario import FOR_EVER, Fault, Scenario

pytestmark = [pytest.mark.slow]

GONE = Fault("reboot", "machine", "training", 0.2, FOR_EVER)
CUT = Fault("cut", "silent", "training", 0.2, 18.0)
KILLED = Fault("kill", "trainer", "training", 0.2)
DOUBLED = Fault("order", "again", "starting", 0.0, size=3.0)
HELD_UP = Fault("cut", "reset", "training", 0.2, 12.0)
CAUGHT = {
    "lease-never-expires": (GONE, "shown at work, and nothing of it lives"),
    "fence-ignored": (CUT, "two trainers that could both publish|a process is left"),
    "killed-is-finished": (KILLED, "it ended as finished"),
    "order-taken-twice": (DOUBLED, "trainers: {"),
    "lost-for-ever": (GONE, "it came to no end"),
    "lost-while-it-speaks": (HELD_UP, "it came to no end"),
}
"""Of each mutant the fault that meets it, and what the oracle says of it."""


FULL = float(os.environ.get("ANNEAL_SCALE") or 0.2) >= 1
CHOSEN = [*STATES, ""] if FULL else ["killed-is-finished"]
"""All of them, and none, at the full size: each needs a server of its own."""


def wrongs(faults: list[Fault], mutant: str = "") -> list[str]:
    """What is wrong with scenarios of one fault each, in an arena whose processes run with a mutant."""
    env = {"PYTHONPATH": f"{Path(__file__).parent / 'mutated'}:{PROJECT_DIR}"}
    arena = Arena(2 if len(faults) > 1 else 1)
    chosen = arena.stack.folder / "mutant"
    chosen.write_text(mutant)
    arena.more |= {**env, "ANNEAL_CHAOS_MUTANT": str(chosen)}
    arena.stack.env |= arena.more
    with arena:
        found = arena.carry_out([Scenario(0, (fault,)) for fault in faults])
        assert not mutant or chosen.with_suffix(".applied").exists()
    return [one for result in found for one in result.wrong]


@pytest.mark.parametrize("mutant", CHOSEN)
def test_a_mutant_is_caught_and_nothing_without_one(
    mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mutant:
        assert wrongs([fault for fault, _ in CAUGHT.values()]) == []
        return
    # What is wrong is seen long before: an arena that will not settle is not waited for.
    monkeypatch.setattr(lane, "END_WITHIN", 60.0)
    monkeypatch.setattr(lane, "SETTLED_WITHIN", 15.0)
    fault, said = CAUGHT[mutant]
    found = wrongs([fault], mutant)
    print(f"{mutant}: {found}")
    assert any(_says(said, one) for one in found), found


def _says(said: str, one: str) -> bool:
    return any(part in one for part in said.split("|"))
