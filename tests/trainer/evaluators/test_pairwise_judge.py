"""The pairwise judge: what it asks, and how strictly it reads the verdict."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.trainer.judges import JudgeServer, Said, completion, user_text
from trainer.evaluators.pairwise_judge import PairwiseJudge
from trainer.registry import Pair

PAIR = Pair("2 + 2 =", "4", "five", {"answer": "4"})


def judge_at(url: str, **knobs: Any) -> PairwiseJudge:
    return PairwiseJudge(url=url, model="judge", **knobs)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("A is right.\n[[A]]", "left"),
        ("[[B]]", "right"),
        ("Both.\n\n [[ C ]] \n", "tie"),
        ("[[A]] at first sight, but no.\n[[D]]", "both-bad"),
    ],
)
def test_a_verdict_on_the_last_line_counts(reply: str, outcome: str) -> None:
    with JudgeServer(lambda body: completion(reply)) as server:
        ruling = judge_at(server.url).ruling(PAIR)
    assert (ruling.outcome, ruling.problem, ruling.said) == (outcome, "", reply)


@pytest.mark.parametrize(
    "reply",
    [
        "A",
        "[A]",
        "[[E]]",
        "[[A]] or [[B]]",
        "The verdict is [[A]]",
        "[[A]]\nor not",
        "[[a]]",
        "[[AB]]",
    ],
)
def test_nonsense_is_a_problem_and_no_tie(reply: str) -> None:
    with JudgeServer(lambda body: completion(reply)) as server:
        ruling = judge_at(server.url).ruling(PAIR)
    assert ruling.outcome == "" and "no verdict" in ruling.problem
    assert ruling.said == reply


def test_it_is_shown_both_answers_in_their_order_and_the_reference_on_request() -> None:
    with JudgeServer(lambda body: completion("[[A]]")) as server:
        judge_at(server.url, instruction="Look closely.").ruling(PAIR)
        judge_at(server.url, column="answer").ruling(Pair("p", "l", "r", {"answer": "gold"}))
    shown = user_text(server.asked[0])
    assert (
        shown.index("2 + 2 =") < shown.index("<answer-A>\n4\n") < shown.index("<answer-B>\nfive\n")
    )
    assert "reference" not in shown
    system = server.asked[0]["messages"][0]["content"]
    assert system.startswith("Look closely.") and "[[D]]" in system
    assert "<reference>\ngold\n</reference>" in user_text(server.asked[1])


def test_a_service_that_refuses_is_the_pairs_problem() -> None:
    with JudgeServer(lambda body: Said(b"too long", 400)) as server:
        ruling = judge_at(server.url).ruling(PAIR)
    assert ruling.outcome == "" and ruling.problem.endswith("HTTP 400: too long")


def test_pairs_are_judged_side_by_side_in_their_order() -> None:
    def prefers_four(body: dict[str, Any]) -> Said:
        return completion("[[A]]" if "<answer-A>\n4" in user_text(body) else "[[B]]")

    pairs = [PAIR, Pair("2 + 2 =", "five", "4"), PAIR]
    with JudgeServer(prefers_four) as server:
        rulings = judge_at(server.url, parallel=2).rulings(pairs)
    assert [ruling.outcome for ruling in rulings] == ["left", "right", "left"]


def test_repeats_need_a_temperature() -> None:
    with pytest.raises(ValidationError, match="repeats: at a temperature of 0"):
        judge_at("http://127.0.0.1:1/v1", repeats=3)
    with JudgeServer(lambda body: completion("[[A]]")) as server:
        judge = judge_at(server.url, repeats=2, temperature=0.7)
        judge.rulings([PAIR, Pair("p", "a", "b", {}, repeat=1)])
    assert sorted(body["seed"] for body in server.asked) == [0, 1]


def test_a_judge_that_is_not_there_is_told_before_the_run() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.judge: url: .* does not answer"):
        judge_at("http://127.0.0.1:9/v1").prepare()
