"""The paired difference: clustered by prompt, over seeds where there are several, no surer for more copies."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from orchestrator.evidence import Arm, Arms, Pair, difference


def pair(candidate: object, baseline: object) -> Pair:
    one, other = Arm("a", np.asarray(candidate, float)), Arm("b", np.asarray(baseline, float))
    names = tuple(f"p{at}" for at in range(one.scores.shape[1]))
    return Arms(names, (one, other)).pair("a", "b")


def test_it_is_candidate_minus_baseline_over_prompts() -> None:
    found = difference(pair([[1, 0], [1, 1], [0, 0]], [0, 1, 0]), resamples=200)
    assert found.candidate == pytest.approx(0.5)
    assert found.baseline == pytest.approx(1 / 3)
    assert found.difference == pytest.approx(1 / 6)
    assert found.prompts == 3
    assert found.sd == pytest.approx(np.std([0.5, 0, 0], ddof=1))
    assert found.seeds == (1, 1)
    assert found.p_seeds is None


def test_the_other_way_round_it_is_the_mirror_image() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 60, 3))
    there, back = difference(pair(one, other)), difference(pair(other, one))
    assert back.difference == pytest.approx(-there.difference)
    assert (back.interval.low, back.interval.high) == pytest.approx(
        (-there.interval.high, -there.interval.low)
    )


def test_pairing_narrows_the_interval_where_prompts_differ_in_difficulty() -> None:
    rng = np.random.default_rng(1)
    hard_P = rng.random(200)
    one, other = ((hard_P + rng.normal(0, 0.02, 200)).clip(0, 1) for _ in range(2))
    paired = difference(pair(one, other)).interval
    mixed = difference(pair(one, rng.permutation(other))).interval
    assert paired.high - paired.low < 0.2 * (mixed.high - mixed.low)


def test_copying_samples_changes_nothing() -> None:
    """The samples of a prompt stay together: ten copies of the same answers are no more evidence."""
    rng = np.random.default_rng(2)
    one, other = rng.integers(0, 2, (2, 80, 2))
    assert difference(pair(one, other)) == difference(pair(np.tile(one, 10), np.tile(other, 10)))


def test_a_failed_sample_is_left_to_the_rest_of_its_prompt() -> None:
    nan = float("nan")
    rng = np.random.default_rng(3)
    other = rng.integers(0, 2, (40, 2)).astype(float)
    one = rng.integers(0, 2, (40, 1)).astype(float)
    gone = np.hstack([one, np.full((40, 1), nan)])
    assert difference(pair(gone, other)) == difference(pair(one, other))


def test_several_seeds_give_an_interval_of_recipes() -> None:
    rng = np.random.default_rng(4)
    good_S = np.array([0.1, 0.3, 0.2])[:, None, None]
    one = (rng.random((3, 100, 2)) * 0.3 + good_S).clip(0, 1)
    other = rng.random((2, 100, 2)) * 0.3
    found = difference(pair(one, other))
    assert found.seeds == (3, 2)
    assert found.interval.method == "t over seeds and prompts"
    assert found.p_seeds is not None
    merged = difference(
        pair(np.concatenate(list(one), axis=1), np.concatenate(list(other), axis=1))
    )
    assert merged.difference == pytest.approx(found.difference)
    width = found.interval.high - found.interval.low
    assert width > 3 * (merged.interval.high - merged.interval.low)


def test_one_seed_against_several_stays_with_these_checkpoints() -> None:
    rng = np.random.default_rng(5)
    found = difference(pair(rng.random((3, 50, 1)), rng.random((50, 1))))
    assert found.seeds == (3, 1)
    assert found.p_seeds is None
    assert "prompts" in found.interval.method


def test_it_is_json() -> None:
    rng = np.random.default_rng(6)
    found = difference(pair(rng.random((50, 2)), rng.random((50, 2))))
    assert json.loads(json.dumps(asdict(found)))["interval"]["low"] == found.interval.low


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"level": 1.5}, "level: 1.5"), ({"resamples": 3}, "resamples: 3")],
)
def test_bad_input_is_told_in_words(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        difference(pair([0, 1, 1], [1, 0, 1]), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a single prompt"):
        difference(pair([1], [0]))
