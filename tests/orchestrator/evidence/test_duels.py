"""Duels: one verdict from orders and repeats, what the order decided, and rates with failed ones left out."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from orchestrator.evidence import Duel, duel_findings, order_effect, self_consistency

FIRST, SECOND = (True, 0), (False, 0)


def duel(prompt: int, said: dict[Any, str], **words: Any) -> Duel:
    return Duel(str(prompt), 0, "tuned", "base", said, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ("candidate", "candidate", 1.0),
        ("baseline", "baseline", 0.0),
        ("candidate", "baseline", 0.5),
        ("candidate", "tie", 0.5),
        ("both bad", "tie", 0.5),
        ("candidate", "", None),
        ("", "", None),
    ],
)
def test_an_answer_wins_that_wins_in_both_orders(
    first: str, second: str, value: float | None
) -> None:
    assert duel(1, {FIRST: first, SECOND: second}).value(swap=True, repeats=1) == value


def test_within_an_order_the_verdict_said_most_often_counts() -> None:
    said = {(False, at): word for at, word in enumerate(("candidate", "tie", "candidate"))}
    assert duel(1, said).value(swap=False, repeats=3) == 1
    torn = said | {(False, 3): "tie"}
    assert duel(1, torn).value(swap=False, repeats=4) == 0.5
    half = {(False, 0): "candidate", (False, 1): ""}
    assert duel(1, half).value(swap=False, repeats=2) is None
    assert duel(1, said).value(swap=True, repeats=3) is None, "half of a swap is no verdict"


def test_a_liking_for_the_first_answer_is_told_and_cancels_out() -> None:
    draw = random.Random(0)
    duels = []
    for prompt in range(300):
        better = "candidate" if draw.random() < 0.7 else "baseline"
        biased = draw.random() < 0.4
        said = {
            FIRST: "candidate" if biased else better,
            SECOND: "baseline" if biased else better,
        }
        duels.append(duel(prompt, said))
    order, first = order_effect(duels)
    assert order is not None and order.interval.holds(0.4) and order.count == 300
    assert first is not None and first.interval.holds(0.7) and first.count == 600
    found = duel_findings(duels, swap=True, repeats=1)[0]
    assert found.finding.verdict.word == "better"
    # 60 % are judged fairly, of which 70 % are wins; the others are ties.
    assert found.win_rate.interval.holds(0.6 * 0.7 + 0.4 * 0.5)
    assert found.win.interval.holds(0.42) and found.tie.interval.holds(0.4)
    assert found.counts["win"] + found.counts["tie"] + found.counts["loss"] == 300


def test_a_judge_that_sees_nothing_but_the_order_finds_no_difference() -> None:
    duels = [duel(p, {FIRST: "candidate", SECOND: "baseline"}) for p in range(200)]
    found = duel_findings(duels, swap=True, repeats=1)[0]
    assert found.finding.verdict.word == "no difference found"
    assert found.win_rate.share == 0.5 and found.counts["tie"] == 200
    assert found.finding.difference.difference == 0
    order, _ = order_effect(duels)
    assert order is not None and order.share == 1
    once = [duel(p, {SECOND: "baseline"}) for p in range(200)]
    assert duel_findings(once, swap=False, repeats=1)[0].finding.verdict.word == "worse"
    assert order_effect(once)[0] is None


def test_failed_duels_have_no_part_and_are_told() -> None:
    duels = [duel(p, {FIRST: "candidate", SECOND: "candidate"}) for p in range(30)]
    duels += [duel(p, {FIRST: "", SECOND: ""}, fault="no verdict") for p in range(30, 40)]
    duels += [duel(p, {}) for p in range(40, 45)]
    found = duel_findings(duels, swap=True, repeats=1)[0]
    assert found.win_rate.share == 1 and found.win_rate.count == 30
    assert found.finding.left_out.why == {"no verdict": 10, "not judged yet": 5}
    assert "Left out: 15 prompts and 15 failed items" in found.finding.verdict.caution
    assert duel_findings(duels[30:], swap=True, repeats=1) == ()


def test_equal_answers_are_ties_that_nobody_was_asked_about() -> None:
    duels = [duel(p, {}, identical=True) for p in range(5)]
    found = duel_findings(duels, swap=True, repeats=1)[0]
    assert found.counts == {"win": 0, "tie": 5, "loss": 0, "both_bad": 0, "identical": 5}
    assert order_effect(duels) == (None, None)


def test_samples_of_a_prompt_count_together() -> None:
    def sampled(prompt: int, sample: int, word: str) -> Duel:
        return Duel(str(prompt), sample, "tuned", "base", {SECOND: word})  # type: ignore[dict-item]

    duels = [sampled(p, 0, "candidate") for p in range(12)]
    duels += [sampled(0, k, "baseline") for k in range(1, 12)]
    found = duel_findings(duels, swap=False, repeats=1)[0]
    assert found.win_rate.share == pytest.approx((11 + 1 / 12) / 12)
    assert found.finding.difference.prompts == 12 and found.win_rate.count == 23


def test_self_consistency_is_how_often_two_times_agree() -> None:
    same = duel(1, {(False, at): "tie" for at in range(3)})
    torn = duel(2, {(False, 0): "tie", (False, 1): "candidate", (True, 0): "tie"})
    found = self_consistency([same, torn])
    assert found is not None and found.share == 0.5 and found.count == 4
    assert self_consistency([duel(1, {FIRST: "tie", SECOND: "candidate"})]) is None


def test_the_win_rate_at_equal_length_takes_the_length_out() -> None:
    draw = random.Random(1)
    duels = []
    for prompt in range(400):
        mine, theirs = draw.randint(10, 60), draw.randint(1, 50)
        chance = 1 / (1 + math.exp(-2 * math.tanh((mine - theirs) / 20)))
        word = "candidate" if draw.random() < chance else "baseline"
        duels.append(duel(prompt, {SECOND: word}, lengths=(mine, theirs)))
    found = duel_findings(duels, swap=False, repeats=1)[0]
    assert found.lengths is not None and found.lengths.length_weight > 1
    assert found.win_rate.share > 0.57
    assert abs(found.lengths.length_controlled - 0.5) < abs(found.win_rate.share - 0.5)
    short = duel_findings(duels[:9], swap=False, repeats=1)[0]
    assert short.lengths is None


def test_p_is_corrected_over_all_pairs_of_arms() -> None:
    duels = []
    for arm in ("x", "y", "z"):
        for prompt in range(40):
            word = "candidate" if prompt % 3 else "baseline"
            duels.append(Duel(str(prompt), 0, arm, "base", {SECOND: word}))  # type: ignore[dict-item]
    found = duel_findings(duels, swap=False, repeats=1)
    assert [one.finding.candidate for one in found] == ["x", "y", "z"]
    assert all(one.finding.comparisons == 3 for one in found)
    assert found[0].finding.p_corrected == pytest.approx(3 * found[0].finding.p)
