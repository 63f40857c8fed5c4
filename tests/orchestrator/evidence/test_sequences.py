"""Always-valid sequences: they may be looked at after every prompt, and stopped at the first that tells."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from orchestrator.evidence import Arm, Arms, Look, Pair, confidence_sequence
from orchestrator.evidence.sequences import decide
from tests.orchestrator.evidence.simulated import SCENARIOS, Scenario, watched, with_gain


def pair(candidate: object, baseline: object) -> Pair:
    one, other = Arm("a", np.asarray(candidate, float)), Arm("b", np.asarray(baseline, float))
    names = tuple(f"p{at}" for at in range(one.scores.shape[1]))
    return Arms(names, (one, other)).pair("a", "b")


def simulated(scenario: Scenario, prompts: int, seed: int) -> Pair:
    one, other = scenario.scores(prompts, 1, np.random.default_rng(seed))
    return pair(one[:, 0], other[:, 0])


def test_it_stops_at_the_first_look_that_tells() -> None:
    found = confidence_sequence(simulated(with_gain(SCENARIOS[3], 0.4), 400, 0), looks=400)
    assert found.decision == "better"
    assert found.stopped_at is not None
    at_stop = next(look for look in found.looks if look.prompts == found.stopped_at)
    before = next(look for look in found.looks if look.prompts == found.stopped_at - 1)
    assert before.low <= 0 < at_stop.low
    assert at_stop.p <= 0.05 < before.p
    assert found.stopped_at < 200
    assert found.newest.prompts == 400


def test_the_other_way_round_it_is_worse() -> None:
    better = simulated(with_gain(SCENARIOS[3], 0.4), 300, 1)
    mirrored = pair(better.baseline_scores_SPK[0], better.candidate_scores_SPK[0])
    one, other = confidence_sequence(better), confidence_sequence(mirrored)
    assert (one.decision, other.decision) == ("better", "worse")
    assert other.stopped_at == one.stopped_at
    assert other.newest.high == pytest.approx(-one.newest.low, abs=1e-9)


def test_few_looks_see_what_many_see() -> None:
    found = simulated(SCENARIOS[0], 200, 2)
    few, many = confidence_sequence(found, looks=4), confidence_sequence(found, looks=200)
    assert [look.prompts for look in few.looks] == [1, 67, 134, 200]
    assert [look for look in many.looks if look.prompts in (1, 67, 134, 200)] == list(few.looks)


def test_equal_arms_end_with_no_difference_or_go_on() -> None:
    rng = np.random.default_rng(3)
    hard_P = rng.random(3_000)
    near = pair(hard_P, (hard_P + rng.normal(0, 0.02, 3_000)).clip(0, 1))
    assert confidence_sequence(near, looks=10).decision == "no difference"
    assert confidence_sequence(simulated(SCENARIOS[0], 60, 4), looks=5).decision == "go on"
    assert confidence_sequence(simulated(SCENARIOS[0], 60, 4), looks=5).stopped_at is None


def test_the_rule_is_what_the_interval_permits() -> None:
    assert decide(Look(9, 0.2, 0.1, 0.3, 0.01), 0.05) == "better"
    assert decide(Look(9, 0.2, -0.3, -0.1, 0.01), 0.05) == "worse"
    assert decide(Look(9, 0.0, -0.04, 0.04, 1.0), 0.05) == "no difference"
    assert decide(Look(9, 0.0, -0.06, 0.04, 1.0), 0.05) == "go on"
    assert decide(Look(9, 0.0, 0.0, 0.2, 1.0), 0.05) == "go on"


def test_scores_of_another_scale_have_their_own_bounds() -> None:
    rng = np.random.default_rng(5)
    one, other = rng.integers(1, 6, 400), rng.integers(1, 4, 400)
    found = confidence_sequence(pair(one, other), bounds=(1, 5), margin=0.1)
    assert found.decision == "better"
    assert found.newest.low < found.newest.difference < found.newest.high
    json.dumps(asdict(found))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"bounds": (0.0, 1.0)}, r"bounds: scores go from 1 to 5"),
        ({"bounds": (5.0, 1.0)}, "in this order"),
        ({"bounds": (0, 9), "looks": 0}, "looks: 0"),
        ({"bounds": (0, 9), "margin": -1.0}, "margin: -1.0"),
        ({"bounds": (0, 9), "level": 2.0}, "level: 2.0"),
    ],
)
def test_bad_input_is_told_in_words(how: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        confidence_sequence(pair([1, 5, 3], [2, 2, 2]), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_whoever_looks_after_every_prompt_is_misled_in_5_percent_at_most(
    scenario: Scenario,
) -> None:
    equal = watched(scenario, 400, 2_000, seed=6)
    assert equal.found <= 0.05
    assert equal.covered_always >= 0.95
    assert equal.covered_at_stop >= 0.95
    # The control: an interval made for one look finds a difference far too often when it is looked at so.
    assert equal.found_by_fixed > 0.2


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_difference_is_found_and_the_interval_at_the_stop_holds_it(scenario: Scenario) -> None:
    better = watched(with_gain(scenario, 0.4), 400, 2_000, seed=7)
    assert better.covered_always >= 0.95
    assert better.covered_at_stop >= 0.95
    assert better.found > 0.8
    assert better.stopped < 350
