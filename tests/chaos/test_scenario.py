"""The generator of scenarios: the same from the same seed, and nothing that it should hold is missing."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from tests.chaos.scenario import KINDS, MOMENTS, PAIRS, VICTIMS, scenario_of


def test_a_seed_is_enough():
    for seed in (0, 7, 123_456, 2**61):
        assert scenario_of(seed) == scenario_of(seed)
        assert str(scenario_of(seed)).startswith(f"scenario {seed}: ")
    assert len({scenario_of(seed) for seed in range(200)}) == 200


@pytest.mark.parametrize("first", [0, 1, 777, 90_001, 2**61])
def test_two_hundred_in_a_row_hold_everything(first):
    scenarios = [scenario_of(first + number) for number in range(200)]
    faults = [fault for one in scenarios for fault in one.faults]
    pairs = Counter(
        tuple(sorted((a.kind, b.kind), key=KINDS.index))
        for one in scenarios
        for a, b in combinations(one.faults, 2)
    )
    victims = Counter((fault.kind, fault.victim) for fault in faults)
    moments = Counter((fault.kind, fault.moment) for fault in faults)
    assert set(pairs) == set(PAIRS)
    assert set(victims) == {(kind, one) for kind, all_ in VICTIMS.items() for one in all_}
    assert set(moments) >= {(kind, moment) for kind in ("kill", "cut") for moment in MOMENTS}
    assert {fault.moment for fault in faults} == set(MOMENTS)
    assert any(one.never_heals for one in faults)
    assert {len(one.faults) for one in scenarios} == {1, 2, 3, 4}
    print("\n".join(f"{kind:8}{n:4}" for kind, n in Counter(f.kind for f in faults).items()))


def test_no_scenario_takes_both_machines_for_ever():
    for seed in range(1000):
        assert sum(fault.never_heals for fault in scenario_of(seed).faults) <= 1


def test_the_server_and_the_network_heal():
    for seed in range(1000):
        for fault in scenario_of(seed).faults:
            if fault.never_heals:
                assert fault.victim in ("trainer", "host", "ship", "node", "full", "machine")
