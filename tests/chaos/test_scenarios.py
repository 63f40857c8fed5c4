"""Generated scenarios of faults: no state is shown that is untrue for longer than its promise and grace.

Twenty, seeded from the commit; `ANNEAL_SCALE=1` is two hundred. `ANNEAL_CHAOS_SEED=N` repeats a single one; what a
failed one left lies under `ANNEAL_CHAOS_LOGS`, or the folder for temporary files.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.arena import Arena
from tests.chaos.scenario import scenario_of

pytestmark = [pytest.mark.slow]

FULL = float(os.environ.get("ANNEAL_SCALE") or 0.2) >= 1
COUNT = 200 if FULL else 20
LANES = int(os.environ.get("ANNEAL_CHAOS_LANES") or 3)
WITHOUT_GIT = 20_261_128
"""The first seed where there is no commit to take it from."""


def seeds() -> list[int]:
    """The seeds to carry out."""
    if only := os.environ.get("ANNEAL_CHAOS_SEED"):
        return [int(one) for one in only.split(",")]
    command = ["git", "rev-parse", "HEAD"]
    found = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True)
    first = int(found.stdout[:12], 16) if found.returncode == 0 else WITHOUT_GIT
    return [first + number for number in range(COUNT)]


def test_no_state_is_untrue_for_longer_than_promise_and_grace() -> None:
    chosen = seeds()
    with Arena(min(LANES, len(chosen))) as arena:
        results = arena.carry_out(map(scenario_of, chosen))
    kinds = Counter(fault.kind for one in results for fault in one.scenario.faults)
    ends = Counter(one.ended.partition(" (")[0] for one in results)
    print(f"\n{len(results)} scenarios: faults {dict(kinds)}, ends {dict(ends)}")
    print(
        f"{sum(one.attempts for one in results)} attempts, {sum(one.missed for one in results)} moments missed"
    )
    assert len(results) == len(chosen)
    wrong = [str(one) for one in results if one.wrong]
    assert not wrong, f"{len(wrong)} of {len(results)} scenarios went wrong\n" + "\n\n".join(wrong)
