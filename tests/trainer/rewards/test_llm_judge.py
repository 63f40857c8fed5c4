"""The pointwise judge: its rating as a score, and no score where there is no rating."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.trainer.judges import JudgeServer, Said, completion, user_text
from trainer import chat_service
from trainer.registry import Answer, Unavailable, Unscorable
from trainer.rewards.llm_judge import LlmJudge


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_service, "PAUSE_FIRST", 0.001)


def answer(text: str = "4", **row: Any) -> Answer:
    return Answer("2 + 2 =", text, 1, "stop", row)


def judge_at(url: str, **knobs: Any) -> LlmJudge:
    return LlmJudge(url=url, model="judge", **knobs)


@pytest.mark.parametrize(
    ("reply", "score"), [("Good.\n[[10]]", 1.0), ("[[1]]", 0.0), ("[[ 5.5 ]]", 0.5)]
)
def test_a_rating_becomes_a_share_of_the_scale(reply: str, score: float) -> None:
    with JudgeServer(lambda body: completion(reply)) as server:
        assert judge_at(server.url).score(answer()) == score


@pytest.mark.parametrize(
    "reply", ["10", "[[11]]", "[[0]]", "[[ten]]", "so [[7]]", "[[7]]\nbye", "[[-1]]"]
)
def test_nonsense_is_no_score(reply: str) -> None:
    with (
        JudgeServer(lambda body: completion(reply)) as server,
        pytest.raises(Unscorable, match="the judge gave no rating: its "),
    ):
        judge_at(server.url).score(answer())


def test_the_mean_of_several_ratings_and_none_where_half_are_missing() -> None:
    replies = iter(["[[4]]", "nonsense", "[[8]]", "[[4]]", "nonsense", "nonsense", "[[9]]", "no"])
    with JudgeServer(lambda body: completion(next(replies))) as server:
        judge = judge_at(server.url, repeats=3, temperature=1.0, lowest=0, highest=8)
        assert judge.score(answer()) == 0.75
        with pytest.raises(Unscorable):
            judge.score(answer())
        with pytest.raises(Unscorable):
            judge_at(server.url, repeats=2, temperature=1.0).score(answer())
    assert [body["seed"] for body in server.asked] == [0, 1, 2, 0, 1, 2, 0, 1]


def test_several_answers_side_by_side_each_with_its_own_reason() -> None:
    def by_text(body: dict[str, Any]) -> Said:
        return completion("[[10]]" if "<answer>\n4" in user_text(body) else "hm")

    with JudgeServer(by_text) as server:
        found = judge_at(server.url).scores([answer("5"), answer("4"), answer("6")])
    assert found[1] == 1.0
    assert [isinstance(one, Unscorable) for one in found] == [True, False, True]


def test_a_reference_is_shown_where_one_is_asked_for() -> None:
    with JudgeServer(lambda body: completion("[[3]]")) as server:
        judge_at(server.url, column="answer").score(answer(answer="four"))
        assert "<reference>\nfour\n" in user_text(server.asked[0])
        with pytest.raises(Unscorable, match="no reference in 'answer'"):
            judge_at(server.url, column="answer").score(answer())


def test_a_service_that_went_away_ends_the_scoring() -> None:
    judge = judge_at("http://127.0.0.1:9/v1", retries=0, parallel=1)
    with pytest.raises(Unavailable):
        judge.scores([answer()] * 8)
    with pytest.raises(ValueError, match="rewards: llm-judge: url: "):
        judge.prepare()


def test_knobs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="highest: must be above lowest"):
        judge_at("http://127.0.0.1:1/v1", lowest=10)
    with pytest.raises(ValidationError, match="repeats: at a temperature of 0"):
        judge_at("http://127.0.0.1:1/v1", repeats=2)
