"""Findings of comparisons: the right pairs, failed items apart, seeds joined, the same answer at once again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orchestrator.models import Arm, Comparison, Score
from orchestrator.selectors.comparison_evidence import comparison_evidence
from orchestrator.selectors.comparison_figures import forest, passes
from orchestrator.selectors.comparisons import comparison_get
from orchestrator.services.comparisons import comparison_create
from tests.orchestrator.answered import (
    EXACT,
    answers_put,
    checkpoint_make,
    dataset_make,
    imported,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def file_of(ada: User, rates: dict[str, float], prompts: int = 40, samples: int = 1) -> Comparison:
    draw = np.random.default_rng(7)
    rows = [
        {
            "prompt": f"p{prompt}", "arm": arm, "index": index, "text": "x" * 20,
            "scores": {"good": int(draw.random() < rate)},
        }
        for prompt in range(prompts) for arm, rate in rates.items() for index in range(samples)
    ]  # fmt: skip
    found = comparison_get(imported(ada, rows).pk)
    assert found is not None
    return found


def test_every_pair_is_compared_and_corrected_over_all(ada: User) -> None:
    found = comparison_evidence(file_of(ada, {"a": 0.1, "b": 0.9, "c": 0.9}))
    pairs = [(one["candidate"], one["baseline"]) for one in found["findings"]]
    assert pairs == [("b", "a"), ("c", "a"), ("c", "b")]
    words = {
        pair: one["verdict"]["word"] for pair, one in zip(pairs, found["findings"], strict=True)
    }
    assert words["b", "a"] == words["c", "a"] == "better"
    assert words["c", "b"] != "better"
    assert {one["comparisons"] for one in found["findings"]} == {3}
    for one in found["findings"]:
        assert one["p_corrected"] >= one["p"]


def test_a_baseline_leaves_fewer_to_correct_over(ada: User) -> None:
    made = file_of(ada, {"a": 0.1, "b": 0.9, "c": 0.9})
    found = comparison_evidence(made, baseline="b")
    assert [one["candidate"] for one in found["findings"]] == ["a", "c"]
    assert {one["comparisons"] for one in found["findings"]} == {2}
    with pytest.raises(ValueError, match="baseline: there is no 'z'; use a, b, c"):
        comparison_evidence(made, baseline="z")
    with pytest.raises(ValueError, match="scorer: there is no 'z' here; use good"):
        comparison_evidence(made, scorer="z")


def test_failed_items_have_no_part_in_it(ada: User) -> None:
    made = file_of(ada, {"a": 0.5, "b": 0.5})
    before = comparison_evidence(made)["findings"][0]
    failed = Score.objects.filter(answer__model=made.arms.first().digest).first()
    Score.objects.filter(pk=failed.pk).update(value=None, problem="the judge did not answer")
    Score.objects.filter(answer__model=made.arms.last().digest).first()
    # Scores never change in life; a copy of the comparison reads what is there now.
    Comparison.objects.filter(pk=made.pk).update(name="copy")
    Arm.objects.filter(comparison=made, position=1).update(name="b2")
    after = comparison_evidence(comparison_get(made.pk))["findings"][0]
    assert after["difference"]["prompts"] == before["difference"]["prompts"] - 1
    assert after["left_out"]["why"] == {"a: the judge did not answer": 1}
    assert "the judge did not answer" in after["verdict"]["caution"]


def test_it_is_made_once(ada: User) -> None:
    made = file_of(ada, {"a": 0.2, "b": 0.8}, prompts=200)
    first = comparison_evidence(made)
    begin = time.perf_counter()
    assert comparison_evidence(comparison_get(made.pk)) is first
    assert time.perf_counter() - begin < 1


def test_several_samples_give_curves(ada: User) -> None:
    found = comparison_evidence(file_of(ada, {"a": 0.2, "b": 0.8}, samples=4))
    assert [curve["arm"] for curve in found["passes"]] == ["a", "b"]
    for curve in found["passes"]:
        estimates = [point["estimate"] for point in curve["points"]]
        assert estimates == sorted(estimates) and len(estimates) == 3
    assert passes(found)["data"][1]["x"] == [1, 2, 4]


def test_figures_hold_what_the_findings_say(ada: User) -> None:
    found = comparison_evidence(file_of(ada, {"a <b>": 0.2, "b": 0.8}))
    [trace] = forest(found)["data"]
    interval = found["findings"][0]["difference"]["interval"]
    at = found["findings"][0]["difference"]["difference"]
    assert trace["x"] == [at]
    assert trace["error_x"]["array"] == [pytest.approx(interval["high"] - at)]
    assert trace["error_x"]["arrayminus"] == [pytest.approx(at - interval["low"])]
    assert "<b>" not in trace["y"][0] and passes(found) is None


def test_arms_that_differ_by_seed_are_joined(ada: User, settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path
    draw, rows = np.random.default_rng(3), [{"prompt": f"{n} = ", "answer": "1"} for n in range(30)]
    specs = [
        {"seed": seed, "objective": {"type": kind}} for kind in ("sft", "dpo") for seed in (1, 2)
    ]
    names = [
        f"checkpoint:{checkpoint_make(ada, f'run {number}', **spec).pk}"
        for number, spec in enumerate(specs)
    ]
    made = comparison_create(
        owner=ada,
        checkpoints=names,
        scorers=[EXACT],
        prompts=[{"source": dataset_make(ada, rows).pk}],
    )
    for arm, rate in zip(made.arms.all(), (0.2, 0.3, 0.8, 0.9), strict=True):
        answers_put(arm, lambda item, index, rate=rate: float(draw.random() < rate))
    made = comparison_get(made.pk)
    assert comparison_evidence(made)["recipes"] is True
    found = comparison_evidence(made, unit="recipes")
    assert [arm["name"] for arm in found["arms"]] == [
        "run 0, step 10 (2 seeds)",
        "run 2, step 10 (2 seeds)",
    ]
    [one] = found["findings"]
    assert one["difference"]["seeds"] == (2, 2)
    assert one["test"] == "t over training seeds"
    assert "One training seed" not in one["verdict"]["sentence"]
    single = comparison_evidence(made)["findings"][0]["verdict"]["sentence"]
    assert single.startswith("One training seed")
