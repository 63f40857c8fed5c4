"""The chaos tests notice what they are there for: each planted mutant is caught by a small storm."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.faults import FaultProxy, Rates
from tests.chaos.fleet import Fleet
from tests.chaos.mutants import MUTANTS
from tests.chaos.stack import Stack
from tests.chaos.storm import Storm, assert_everything_arrived, assert_prefix
from tests.chaos.test_kills import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

WRITERS, POINTS, SECONDS = 6, 600, 5.0
RATES = Rates(drop=0.08, double=0.02, swap=0.02, delay=0.02, tear=0.01)
PATIENCE = 25.0  # seconds
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


@pytest.fixture(scope="module")
def pace() -> Pace:
    return Pace()


@pytest.fixture
def mutant(
    request: pytest.FixtureRequest, stack: Stack, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Let the web part, and the writers and ships to come, run with a mutant ("" for none)."""
    name: str = request.param
    (stack.folder / "mutant").write_text(name)
    for variable in ("ANNEAL_CHAOS_MUTANT", "PYTHONPATH"):
        monkeypatch.setenv(variable, stack.env[variable])
    web_restart(stack, pace)
    return name


def web_restart(stack: Stack, pace: Pace) -> None:
    pace.wait("web")
    stack.kill_part("web")
    stack.wait(lambda: not stack.healthy(), 5)
    stack.wait(stack.healthy, 30, lambda: f"no web part:\n{stack.said()}")


def small_storm(stack: Stack, pace: Pace, seed: int) -> None:
    """Writers, broken frames, and one kill of the web part; then everything must be there."""
    with FaultProxy(stack.port, seed, RATES) as proxy:
        fleet = Fleet(stack, stack.folder / f"writers-{seed}", proxy.port)
        try:
            fleet.launch(WRITERS, POINTS, SECONDS, seed)
            storm = Storm(fleet, random.Random(seed))
            fleet.tend_for(SECONDS / 2)
            pace.wait("web")
            storm.blow(["web", "ship"], 1.0)
            for _ in range(5):
                fleet.tend_until_delivered((PATIENCE + SECONDS) / 5)
                for voyage in fleet.voyages:
                    assert_prefix(stack, voyage)
            assert_everything_arrived(fleet)
        finally:
            fleet.end()


@pytest.mark.parametrize("mutant", [""], indirect=True)
def test_without_a_mutant_the_small_storm_passes(mutant: str, stack: Stack, pace: Pace) -> None:
    small_storm(stack, pace, 100)


@pytest.mark.parametrize("mutant", MUTANTS, indirect=True)
def test_a_mutant_is_caught(mutant: str, stack: Stack, pace: Pace) -> None:
    with pytest.raises(AssertionError) as caught:
        small_storm(stack, pace, 101 + list(MUTANTS).index(mutant))
    print(f"{mutant}: {str(caught.value)[:200]}")
