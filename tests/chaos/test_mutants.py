"""The chaos tests notice what they are there for: each planted mutant is caught by a small storm.

`ANNEAL_SCALE=1` plants the one too whose loss shows only once everybody has waited for it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.comparison import assert_everything_arrived
from tests.chaos.faults import CALM, FaultProxy, Rates
from tests.chaos.fleet import Fleet
from tests.chaos.mutants import MUTANTS
from tests.chaos.stack import Stack
from tests.chaos.storm import Storm
from tests.chaos.test_kills import Pace
from trainer.processes import ProcessName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow]

WRITERS, POINTS, SECONDS = 6, 1000, 6.0
RATES = Rates(drop=0.1, double=0.02, swap=0.02, delay=0.02, tear=0.01)
QUIET = 35.0
"""Seconds without a line stored after which nothing more is expected; ship itself waits 30 s for an answer."""
LONGEST = 300.0  # seconds; with or without a mutant, a busy machine may take its time
PACE = Pace()
PARTS = {"orchestrator.services.compaction": "control"}
"""The part of the server that runs a mutant's module, where it is not the web part."""
VICTIMS = ("backend", "backend", "ship")
SPECIAL_VICTIMS = {"packed-in-two-transactions": ("ship", *["control"] * 2, *["backend"] * 3)}
SYMPTOMS = {
    "gap-ignored": "lost|never logged|twice|arrived",
    "repeat-stored": "lost|never logged|twice|arrived|events",
    "cursor-outside-the-transaction": "lost",
    "packed-in-two-transactions": "lost",
    "torn-line-taken": "logged as|arrived",
    "torn-line-kept-at-reopen": "arrived",
    "left-before-the-answer": "arrived",
    "older-attempt-wins": "(loss|reward|grad_norm|量) of",
}
"""What each of them does to the data, in the words of the check."""
SPECIAL = {
    # A ship that waits for lost answers reads nothing, and sees no torn line.
    "torn-line-taken": CALM,
    "torn-line-kept-at-reopen": CALM,
    # Nothing is sent twice but what the network doubles.
    "repeat-stored": Rates(0, 0.9, 0, 0, 0),
}
"""Networks in which a mutant has something to do."""
FULL = float(os.environ.get("ANNEAL_SCALE") or 0.2) >= 1
CHOSEN = [name for name in MUTANTS if FULL or name != "left-before-the-answer"]
MUTATED = Path(__file__).parent / "mutated"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack()
    found.env |= {
        "ANNEAL_CHAOS_MUTANT": str(found.folder / "mutant"),
        "PYTHONPATH": f"{MUTATED}:{PROJECT_DIR}",
    }
    (found.folder / "mutant").write_text("")
    try:
        found.up()
        yield found
    finally:
        found.remove()


@pytest.fixture
def mutant(
    request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Let the processes to come run with a mutant ("" for none), the web part among them if it matters."""
    name: str = request.param
    for variable in ("ANNEAL_CHAOS_MUTANT", "PYTHONPATH"):
        monkeypatch.setenv(variable, stack.env[variable])
    chosen = stack.folder / "mutant"
    chosen.write_text(name)
    module = MUTANTS[name][0] if name else ""
    part = PARTS.get(module, "web" if module.startswith("orchestrator.") else "")
    if part:
        restart(stack, part)
        stack.wait(chosen.with_suffix(".applied").exists, 30, f"no {part} with the mutant")
    yield name
    assert not name or chosen.with_suffix(".applied").exists()
    chosen.with_suffix(".applied").unlink(missing_ok=True)
    chosen.write_text("")
    if part:
        restart(stack, part)


def restart(stack: Stack, part: str) -> None:
    PACE.wait(part)
    # A mutant may have ended it: it is killed once it is back.
    stack.wait(lambda: ProcessName(*stack.notes["parts"][part]).alive(), 30, f"no {part}")
    before = stack.notes["parts"][part]
    assert stack.kill_part(part)
    stack.wait(lambda: stack.notes["parts"][part] != before, 30)
    stack.wait(stack.healthy, 60, lambda: f"no {part} part:\n{stack.said()}")


def small_storm(
    stack: Stack, seed: int, rates: Rates = RATES, victims: Sequence[str] = VICTIMS
) -> None:
    """Writers, broken frames, and a database that loses its sessions; then everything must be there."""
    with FaultProxy(stack.port, seed, rates) as proxy:
        fleet = Fleet(stack, stack.folder / f"writers-{seed}", proxy.port)
        try:
            fleet.launch(WRITERS, POINTS, SECONDS, seed)
            storm = Storm(fleet, random.Random(seed))
            storm.blow(list(victims), SECONDS * len(victims) / len(VICTIMS))
            storm.settle(QUIET, LONGEST)
            assert_everything_arrived(fleet)
        finally:
            print(f"faults {dict(proxy.done)}")
            fleet.end()


@pytest.mark.parametrize("mutant", [""], indirect=True)
def test_without_a_mutant_the_small_storm_passes(mutant: str, stack: Stack) -> None:
    small_storm(stack, 100)


@pytest.mark.parametrize("mutant", CHOSEN, indirect=True)
def test_a_mutant_is_caught(mutant: str, stack: Stack) -> None:
    rates = SPECIAL.get(mutant, RATES)
    with pytest.raises(AssertionError, match=SYMPTOMS[mutant]) as caught:
        small_storm(
            stack, 101 + list(MUTANTS).index(mutant), rates, SPECIAL_VICTIMS.get(mutant, VICTIMS)
        )
    print(f"{mutant}: {str(caught.value)[:200]}")
