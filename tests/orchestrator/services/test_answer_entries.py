"""Events of an evaluation are checked like all others: a hostile node stores nothing and breaks nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.services.entries import PushError, push_read
from tests.orchestrator.telemetry import answer, judgement, reading

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "item": (answer(1, item="../etc"), "SHA-256"),
    "item-case": (answer(1, item="A" * 64), "SHA-256"),
    "item-line": (answer(1, item="a" * 64 + "\n"), "SHA-256"),
    "item-list": (answer(1, item=["a" * 64]), "SHA-256"),  # type: ignore[arg-type]
    "index": (answer(1, index=-1), "whole number"),
    "index-bool": (answer(1, index=True), "whole number"),
    "index-high": (answer(1, index=100_000), "below 100000"),
    "text": (answer(1, text=["x"]), "text must be a text"),
    "tokens": (answer(1, token_ids="5, 6"), "token_ids must be a list"),
    "tokens-negative": (answer(1, token_ids=[-1]), "token_ids holds"),
    "tokens-float": (answer(1, token_ids=[0.5]), "token_ids holds"),
    "tokens-bool": (answer(1, token_ids=[True]), "token_ids holds"),
    "tokens-huge": (answer(1, token_ids=[2**31]), "token_ids holds"),
    "tokens-many": (answer(1, token_ids=[1] * 200_001), "at most 200000"),
    "tokens-count": (answer(1, tokens=-2), "tokens is -2"),
    "logps": (answer(1, logps=["low", 0]), "not a number"),
    "logps-short": (answer(1, logps=[-0.5]), "1 logps for 2 tokens"),
    "logps-many": (reading(1, logps=[0.0] * 200_001), "at most 200000"),
    "reason": (answer(1, finish_reason="tired"), "stop, length or empty"),
    "reason-list": (answer(1, finish_reason=["stop"]), "stop, length or empty"),
    "scores": (answer(1, scores=[1]), "objects by scorer"),
    "scorers": (answer(1, scorers={}), "SHA-256"),
    "scorers-text": (answer(1, scorers={"exact-match": "newest"}), "SHA-256"),
    "score": (answer(1, scores={"exact-match": 1.0}), "value and problem"),
    "value": (answer(1, scores={"exact-match": {"value": "good"}}), "not a number"),
    "value-nan": (answer(1, scores={"exact-match": {"value": "NaN"}}), "gives null"),
    "value-huge": (answer(1, scores={"exact-match": {"value": 10**400}}), "too large"),
    "value-both": (
        answer(1, scores={"exact-match": {"value": 0, "problem": "hung"}}),
        "a value and a problem",
    ),
    "label": (answer(1, scores={"a\nb": {"value": 1}}), "no name of a scorer"),
    "label-long": (answer(1, scores={"x" * 65: {"value": 1}}), "no name of a scorer"),
    "many": (answer(1, scorers={str(n): "e" * 64 for n in range(65)}), "more than 64"),
    "problem": (answer(1, problem={"a": 1}), "problem must be a text"),
    "author": (reading(1, model="me"), "SHA-256"),
    "pieces": (reading(1, pieces=["one"]), "pieces must be a list of 2 texts"),
    "piece": (reading(1, pieces=["one", 2]), "piece must be a text"),
    "outcome": (judgement(1, outcome="mine"), "left, right, tie, both-bad or empty"),
    "outcome-list": (judgement(1, outcome=["left"]), "left, right, tie, both-bad or empty"),
    "outcome-none": (judgement(1, outcome=""), "either an outcome or a problem"),
    "outcome-both": (judgement(1, problem="nonsense"), "either an outcome or a problem"),
    "side": (judgement(1, left="x" * 121), "1 to 120"),
    "side-control": (judgement(1, right="a\x00"), "1 to 120"),
    "side-empty": (judgement(1, left=""), "1 to 120"),
    "repeat": (judgement(1, repeat=32_768), "below 32768"),
    "judge": (judgement(1, judge="gpt"), "SHA-256"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_faulty_event_is_refused_with_a_sentence(fault: str) -> None:
    event, sentence = HOSTILE[fault]
    with pytest.raises(PushError, match=sentence):
        push_read(source="samples", first=1, events=[event])


@pytest.mark.parametrize("event", [answer(1), reading(1), judgement(1)])
@pytest.mark.parametrize("source", ["trainer", "host"])
def test_they_belong_in_the_samples_journal(event: dict[str, Any], source: str) -> None:
    with pytest.raises(PushError, match="samples journal"):
        push_read(source=source, first=1, events=[event])


def test_what_is_read_is_bounded_and_storable() -> None:
    odd = answer(1, text="a\x00b\ud800", problem="p" * 900, token_ids=[], logps=[], tokens=7)
    (found,) = push_read(source="samples", first=1, events=[odd]).answers
    assert found["text"] == "a\ufffdb\ufffd"
    assert len(found["problem"]) == 500
    assert (found["token_ids"], found["tokens"]) == ([], 7)
    assert "sampling" not in found and "model" not in found
    (said,) = push_read(
        source="samples", first=1, events=[judgement(1, said="x" * 30_000)]
    ).judgements
    assert len(said["said"]) == 20_000


def test_a_score_that_is_none_always_has_a_reason() -> None:
    scores = {"a": {"value": None}, "b": {"value": None, "problem": "hung"}, "c": {"value": 0}}
    event = answer(1, scores=scores, scorers={"a": "1" * 64, "b": "2" * 64, "c": "3" * 64})
    (found,) = push_read(source="samples", first=1, events=[event]).answers
    assert found["scores"] == {
        "1" * 64: {"value": None, "problem": "the scorer could not say"},
        "2" * 64: {"value": None, "problem": "hung"},
        "3" * 64: {"value": 0.0, "problem": ""},
    }


def test_an_answer_that_ship_had_to_cut_is_taken() -> None:
    """Tokens fall away from a line that is too long for a frame; how many there were stays."""
    event = answer(1, tokens=90_000, cut=True)
    del event["token_ids"], event["logps"]
    (found,) = push_read(source="samples", first=1, events=[event]).answers
    assert (found["token_ids"], found["logps"], found["tokens"]) == ([], [], 90_000)
