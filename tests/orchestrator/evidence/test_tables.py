"""McNemar's tests: published values, statsmodels' values, and their size by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference

from orchestrator.evidence import Arm, Arms, Table, mcnemar, table
from tests.orchestrator.evidence.simulated import SCENARIOS, rejections

SINGLE = [scenario for scenario in SCENARIOS if scenario.samples == 1]


def test_it_counts_who_solved_which() -> None:
    arms = Arms(
        tuple("pqrstu"),
        (Arm("a", np.array([1, 1, 0, 0, 1, 0])), Arm("b", np.array([1, 0, 1, 0, 0, 0]))),
    )
    assert table(arms.pair("a", "b")) == Table(1, 2, 1, 2)
    assert table(arms.pair("b", "a")) == Table(1, 1, 2, 2)
    assert Table(1, 2, 1, 2).prompts == 6
    assert Table(1, 2, 1, 2).discordant == 3


def test_it_gives_the_values_of_the_published_example() -> None:
    """Fagerland, Lydersen and Laake 2013, table 1 (airway hyper-responsiveness) and section "Results"."""
    found = mcnemar(Table(1, 1, 7, 12))
    assert found.exact == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)
    assert found.corrected == pytest.approx(0.0771, abs=5e-5)


@pytest.mark.parametrize("pair", [(0, 1), (0, 8), (3, 3), (5, 17), (64, 293), (209, 152), (1, 0)])
def test_it_equals_statsmodels(pair: tuple[int, int]) -> None:
    cells = [[100, pair[0]], [pair[1], 50]]
    found = mcnemar(Table(100, *pair, 50))
    assert found.exact == pytest.approx(reference(cells, exact=True).pvalue, rel=1e-12)
    corrected = reference(cells, exact=False, correction=True)
    if pair[0] != pair[1]:
        assert found.statistic == pytest.approx(corrected.statistic, rel=1e-12)
        assert found.corrected == pytest.approx(corrected.pvalue, rel=1e-12)


def test_a_correction_does_not_make_a_difference_where_none_is() -> None:
    found = mcnemar(Table(5, 3, 3, 5))
    assert (found.exact, found.corrected, found.statistic) == (1.0, 1.0, 0.0)
    # Half of the chance of three and three is what mid-p takes off.
    assert found.mid_p == pytest.approx(1 - 0.3125 / 2)


def test_without_discordant_prompts_there_is_no_evidence() -> None:
    found = mcnemar(Table(10, 0, 0, 10))
    assert (found.exact, found.mid_p, found.corrected, found.statistic) == (1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("scores", [[[1, 0], [0, 0]], [0.5, 1]])
def test_other_scores_have_no_table(scores: list[object]) -> None:
    arms = Arms(("p", "q"), (Arm("a", np.array(scores)), Arm("b", np.array([0, 1]))))
    with pytest.raises(ValueError, match="one answer a prompt"):
        table(arms.pair("a", "b"))


@pytest.mark.parametrize("prompts", [200, 500])
@pytest.mark.parametrize("scenario", SINGLE, ids=lambda scenario: scenario.name)
def test_without_a_difference_5_percent_find_one(scenario: object, prompts: int) -> None:
    found = rejections(scenario, prompts, 2_000, seed=prompts)  # type: ignore[arg-type]
    assert 0.035 <= found["McNemar, mid-p"] <= 0.065
    assert found["McNemar, exact"] <= 0.05 + 0.015
    assert found["McNemar, corrected"] <= 0.05 + 0.015
    assert found["McNemar, exact"] <= found["McNemar, mid-p"]


@pytest.mark.parametrize("prompts", [10, 20, 50])
def test_of_few_prompts_it_is_no_bolder(prompts: int) -> None:
    for scenario in SINGLE:
        assert rejections(scenario, prompts, 2_000, seed=prompts)["McNemar, mid-p"] <= 0.065
