"""Several training seeds: their spread counts, however many prompts there are."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.evidence.seeds import crossed, satterthwaite
from tests.orchestrator.evidence.simulated import seeds_cover


def test_variance_is_that_of_seeds_plus_that_of_prompts() -> None:
    """Additive means: no interaction, so the parts are those of the two margins, exactly."""
    seeds_S1 = np.array([[0.0], [0.1], [0.5]])
    prompts_P = np.array([0.3, 0.1, 0.9, 0.4])
    found = crossed(seeds_S1 + prompts_P, np.zeros((2, 4)))
    assert found.difference == pytest.approx(0.2 + 0.425)
    assert found.by_seeds == pytest.approx(seeds_S1.var(ddof=1) / 3)
    assert found.by_prompts == pytest.approx(prompts_P.var(ddof=1) / 4)
    assert found.error == pytest.approx(np.sqrt(found.by_seeds + found.by_prompts))


def test_what_both_margins_count_is_taken_off_once() -> None:
    """Pure noise of variance 1 in S x P cells: each margin alone has 1 / SP, and so has the whole."""
    rng = np.random.default_rng(0)
    found = [crossed(rng.normal(size=(4, 50)), np.zeros((4, 50))) for _ in range(400)]
    # The floor (never less than either margin) keeps it a little above.
    assert 1.0 <= np.mean([each.error**2 for each in found]) * 200 < 1.5


def test_prompts_cannot_buy_what_seeds_cost() -> None:
    rng = np.random.default_rng(1)
    seeds_S1 = np.array([[0.0], [0.2], [-0.1]])
    few, many = (
        crossed(seeds_S1 + rng.normal(0, 0.3, size), -seeds_S1 + np.zeros((3, size)))
        for size in (50, 50_000)
    )
    assert many.by_prompts < few.by_prompts / 100
    assert many.by_seeds == pytest.approx(few.by_seeds, abs=1e-3)
    assert many.freedom == pytest.approx(4, abs=0.1)
    low, high = many.bounds(0.95)
    assert high - low > 0.5


def test_p_and_interval_agree() -> None:
    rng = np.random.default_rng(2)
    found = crossed(rng.normal(0.02, 0.1, (3, 40)), rng.normal(0, 0.1, (4, 40)))
    low, high = found.bounds(1 - found.p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)


def test_where_nothing_varies_p_is_told_without_a_division() -> None:
    same = np.full((2, 3), 0.5)
    assert crossed(same, same).p == 1.0
    assert crossed(same + 0.1, same).p == 0.0
    assert satterthwaite(((0.0, 2), (0.0, 9))) == 9


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_intervals_over_seeds_hold_the_truth(seeds: int, spread: float) -> None:
    assert 0.93 <= seeds_cover(seeds, spread, 150, 2_000, seed=seeds) <= 0.985


def test_prompts_alone_would_miss_it() -> None:
    """The control: what an interval that forgets seeds would cover."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        hard_P = rng.normal(0, 0.3, 150)
        one, other = (hard_P + rng.normal(0, 0.1) + rng.normal(0, 0.2, 150) for _ in range(2))
        difference_P = one - other
        held += abs(difference_P.mean()) <= 1.96 * difference_P.std(ddof=1) / np.sqrt(150)
    assert held / 500 < 0.5
