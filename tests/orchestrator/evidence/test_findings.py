"""Findings: whole comparisons, from scores to words; four real models; and how often words are wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from orchestrator.evidence import Arm, Arms, finding, findings
from tests.orchestrator.evidence.simulated import SCENARIOS, Scenario, with_gain, words

MARKS = Path(__file__).parents[2] / "data" / "gsm8k_marks.txt"
"""GSM8K's 1,319 test problems, a line each: whether each of four published models solved it (see
gsm8k_LICENSE)."""


@pytest.fixture(scope="module")
def models() -> Arms:
    """The four models by name."""
    first, *lines = MARKS.read_text().splitlines()
    marks = np.array([[int(mark) for mark in line] for line in lines])
    names = first.split()
    return Arms(
        tuple(f"problem {at}" for at in range(len(lines))),
        tuple(Arm(name, marks[:, at]) for at, name in enumerate(names)),
    )


def test_the_paired_tables_of_four_real_models(models: Arms) -> None:
    """Each number is counted and tested once more, by other code."""
    marks = {arm.name: arm.scores[0, :, 0].astype(int).tolist() for arm in models.arms}
    found = findings(models)
    assert len(found) == 6
    raw = []
    for each in found:
        pairs = list(zip(marks[each.candidate], marks[each.baseline], strict=True))
        cells = {key: pairs.count(key) for key in ((1, 1), (1, 0), (0, 1), (0, 0))}
        assert each.table is not None
        assert each.mcnemar is not None
        assert asdict(each.table) == dict(
            zip(("both", "candidate_only", "baseline_only", "neither"), cells.values(), strict=True)
        )
        assert each.table.prompts == each.difference.prompts == 1319
        assert each.difference.difference == pytest.approx((cells[1, 0] - cells[0, 1]) / 1319)
        square = [[cells[1, 1], cells[1, 0]], [cells[0, 1], cells[0, 0]]]
        assert each.mcnemar.exact == pytest.approx(reference(square, exact=True).pvalue, rel=1e-9)
        assert each.test == "McNemar, mid-p"
        raw.append(each.p)
        # Agresti's interval of a paired difference, which is another way to the same place.
        spread = np.sqrt(cells[1, 0] + cells[0, 1] - (cells[1, 0] - cells[0, 1]) ** 2 / 1319) / 1319
        for end, side in ((each.difference.interval.low, -1), (each.difference.interval.high, 1)):
            assert end == pytest.approx(
                each.difference.difference + side * 1.96 * spread, abs=0.002
            )
    assert [each.p_corrected for each in found] == pytest.approx(
        multipletests(raw, method="holm")[1], rel=1e-9
    )
    assert {(each.candidate, each.baseline): each.verdict.word for each in found} == {
        ("6b_verification", "6b_finetuning"): "better",
        ("175b_finetuning", "6b_finetuning"): "better",
        ("175b_verification", "6b_finetuning"): "better",
        ("175b_finetuning", "6b_verification"): "worse",
        ("175b_verification", "6b_verification"): "better",
        ("175b_verification", "175b_finetuning"): "better",
    }


def test_the_closest_pair_in_numbers(models: Arms) -> None:
    (found,) = findings(models, pairs=[("175b_finetuning", "6b_verification")])
    assert found.table is not None
    assert asdict(found.table) == {
        "both": 306,
        "candidate_only": 152,
        "baseline_only": 209,
        "neither": 652,
    }
    assert found.difference.candidate == pytest.approx(458 / 1319)
    assert found.difference.baseline == pytest.approx(515 / 1319)
    assert found.p == pytest.approx(0.002687, abs=1e-6)
    assert (
        "One training seed: “175b_finetuning” is worse than “6b_verification”"
        in found.verdict.sentence
    )


def test_fifty_problems_do_not_tell_the_close_pair_apart(models: Arms) -> None:
    few = Arms(models.prompts[:50], tuple(Arm(arm.name, arm.scores[0, :50]) for arm in models.arms))
    (found,) = findings(few, pairs=[("175b_finetuning", "6b_verification")])
    assert found.verdict.word == "not enough data"
    assert (found.power.more or 0) > 500


def test_baseline_pairs_or_all(models: Arms) -> None:
    against = findings(models, baseline="6b_finetuning", resamples=200)
    assert [(each.candidate, each.baseline) for each in against] == [
        (name, "6b_finetuning")
        for name in ("6b_verification", "175b_finetuning", "175b_verification")
    ]
    assert against[0].comparisons == 3
    chosen = findings(models, pairs=[("6b_finetuning", "175b_finetuning")], resamples=200)
    assert chosen[0].verdict.word == "worse"
    json.dumps([asdict(each) for each in against])


def test_a_correction_reaches_the_verdict() -> None:
    """One gain among eight arms: enough alone, not among all that were tried."""
    arms = [Arm("base", np.zeros(60)), Arm("lucky", np.array([1] * 6 + [0] * 54))]
    arms += [
        Arm(f"other {at}", np.array([0] * (10 + at) + [1] + [0] * (49 - at))) for at in range(6)
    ]
    whole = Arms(tuple(f"p{at}" for at in range(60)), tuple(arms))
    alone = finding(whole.pair("lucky", "base"))
    among = findings(whole, baseline="base")[0]
    assert alone.verdict.word == "better"
    assert among.candidate == "lucky"
    assert among.p == alone.p
    assert among.p_corrected > 0.05
    assert among.verdict.word == "not enough data"
    assert findings(whole, baseline="base", correction="none")[0].verdict.word == "better"
    assert among.power.alpha == pytest.approx(0.05 / 7)


def test_several_seeds_are_tested_over_seeds() -> None:
    rng = np.random.default_rng(0)
    lucky = np.array([0.0, 0.0, 0.35])[:, None, None]
    base = rng.random((3, 200, 1)) * 0.6
    one = rng.random((3, 200, 1)) * 0.6 + lucky
    arms = Arms(tuple(map(str, range(200))), (Arm("new", one), Arm("old", base)))
    found = finding(arms.pair("new", "old"))
    assert found.test == "t over training seeds"
    assert found.verdict.word == "not enough data"
    assert "training seed" not in found.verdict.caution
    # Its best seed alone would have looked like a win.
    best = Arms(arms.prompts, (Arm("new", one[2]), Arm("old", base[2])))
    alone = finding(best.pair("new", "old"))
    assert alone.verdict.word == "better"
    assert alone.verdict.sentence.startswith("One training seed: ")


def test_equal_seeds_give_equal_findings(models: Arms) -> None:
    pair = models.pair("175b_finetuning", "6b_verification")
    assert finding(pair, resamples=300) == finding(pair, resamples=300)
    assert finding(pair, resamples=300) != finding(pair, resamples=300, seed=1)


def test_bad_input_is_told_in_words(models: Arms) -> None:
    with pytest.raises(ValueError, match="1 cannot be compared"):
        findings(Arms(("p",), (Arm("a", np.zeros(1)),)))
    with pytest.raises(ValueError, match="not both"):
        findings(models, baseline="6b_finetuning", pairs=[])
    with pytest.raises(ValueError, match="no arm 'x'"):
        findings(models, baseline="x")
    with pytest.raises(ValueError, match="alpha: 5"):
        findings(models, alpha=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "prompts"),
    [(SCENARIOS[0], 100), (SCENARIOS[3], 100)],
    ids=["one answer", "4 samples"],
)
def test_of_equal_checkpoints_few_are_called_better_or_worse(
    scenario: Scenario, prompts: int
) -> None:
    said = words(scenario, prompts, 2_000, seed=1)
    assert said.get("better", 0) + said.get("worse", 0) <= 0.065
    assert said["not enough data"] > 0.8


@pytest.mark.slow
def test_equal_checkpoints_are_told_apart_by_nobody_and_a_better_one_by_most() -> None:
    many = words(SCENARIOS[3], 1_500, 100, seed=2)
    assert many["no difference found"] > 0.85
    gained = words(with_gain(SCENARIOS[3], 0.3), 150, 300, seed=3)
    assert gained["better"] > 0.95
    assert "worse" not in gained
