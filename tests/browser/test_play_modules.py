"""The JavaScript of playgrounds without a page: what is asked, what belongs together, where models come apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_modules import call

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FIELDS = {
    "prompt": "hi",
    "chat": False,
    "mode": "mix",
    "weight": "0.5",
    "samples": "1",
    "temperature": "0.7",
    "top_p": "1",
    "top_k": "0",
    "min_p": "0",
    "max_new_tokens": "8",
    "seed": "0",
}


def question(page: Page, **fields: Any) -> Any:
    return call(page, "play_question.js", "questionOf", FIELDS | fields)


def asked(number: int, state: str = "answered", **question: Any) -> dict[str, Any]:
    usual = {
        "prompt": "hi",
        "chat": False,
        "voices": ["a", "b"],
        "blend": None,
        "samples": 1,
        "seed": 0,
    }
    usual |= {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "max_new_tokens": 8}
    answers = [
        {"voice": voice, "index": 0, "problem": "", "tokens": []}
        for voice in {**usual, **question}["voices"]
    ]
    told = {"id": number, "by": "ada", "state": state, "problem": "", "question": usual | question}
    return {**told, "answers": answers if state == "answered" else []}


def token(
    a: float | str | None, b: float | None, text: str = "x", number: int = 1
) -> dict[str, Any]:
    return {"id": number, "text": text, "logp": a, "logps": {"a": a, "b": b}}


def test_fields_become_a_question(module_page: Page) -> None:
    found = question(module_page, weight="−0.5", base=True)
    assert found["voices"] == ["a", "b", "base", "blend"]
    assert found["blend"] == {"mode": "mix", "weight": -0.5} and found["temperature"] == 0.7
    assert "blend" not in question(module_page, mode="none")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": " "}, "prompt: write something"),
        ({"temperature": "hot"}, "temperature: must be a number"),
        ({"samples": "1.5"}, "samples: must be a whole number"),
        ({"weight": "4"}, "weight: must be from -1 to 3"),
    ],
)
def test_a_faulty_field_is_named(module_page: Page, fields: dict[str, str], words: str) -> None:
    with pytest.raises(Exception, match=words):
        question(module_page, **fields)


def test_only_what_was_not_asked_yet_is_asked(module_page: Page) -> None:
    def missing(wanted: dict[str, Any], known: list[dict[str, Any]]) -> Any:
        return call(module_page, "play_question.js", "missingOf", wanted, known)

    plain = asked(1)["question"]
    mixed = {**plain, "voices": ["a", "b", "blend"], "blend": {"mode": "mix", "weight": 2}}
    assert missing(plain, [asked(1)]) is None
    assert missing(plain, [asked(1, "lost")])["voices"] == ["a", "b"], (
        "what failed may be asked again"
    )
    assert missing(mixed, [asked(1)])["voices"] == ["blend"], "A and B answered already"
    assert missing(mixed, [asked(1, seed=1)])["voices"] == ["a", "b", "blend"], "another seed"
    half = {"mode": "mix", "weight": 0.5}
    assert missing(mixed, [asked(1), asked(2, voices=["blend"], blend=half)])["voices"] == ["blend"]


def test_weights_of_one_prompt_stand_together_in_their_order(module_page: Page) -> None:
    blends = [
        asked(number, voices=["blend"], blend={"mode": "mix", "weight": weight})
        for number, weight in ((2, 2), (4, -1), (5, 0.5))
    ]
    found = call(
        module_page, "play_question.js", "groupsOf", [asked(1), asked(3, prompt="other"), *blends]
    )
    assert [group["question"]["prompt"] for group in found] == ["hi", "other"], "the last one first"
    weights = [one["blend"] and one["blend"]["weight"] for one in found[0]["voices"]]
    assert weights == [None, None, -1, 0.5, 2]


def test_what_is_open_is_asked_for_again(module_page: Page) -> None:
    known = [asked(3), asked(5, "waiting"), asked(7)]
    assert call(module_page, "play_question.js", "settledUpto", known) == 4
    assert call(module_page, "play_question.js", "settledUpto", [asked(3), asked(7)]) == 7
    now = call(module_page, "play_question.js", "merged", known, [asked(5), asked(8)])
    assert [(one["id"], one["state"]) for one in now] == [(n, "answered") for n in (3, 5, 7, 8)]


def test_tokens_tell_who_finds_them_likelier(module_page: Page) -> None:
    tokens = [
        token(-1, -0.9),
        token(-3, -0.5),
        token(-0.1, -9),
        token(None, -1),
        token("-Infinity", -1),
    ]
    cells = call(module_page, "play_tokens.js", "playCells", tokens)
    assert [cell["side"] for cell in cells] == ["b", "b", "a", "", ""]
    assert [cell["apart"] for cell in cells] == [False, True, False, False, False]
    assert cells[2]["strength"] == 1 and cells[1]["strength"] == pytest.approx(0.625)
    assert "B minus A: +2.500 nats" in cells[1]["title"] and "cannot read" in cells[3]["title"]


def test_where_two_answers_part_is_told(module_page: Page) -> None:
    one = [token(-1, -1, "2", 2), token(-1, -1, "5", 5)]
    other = [token(-1, -1, "2", 2), token(-1, -1, "7", 7)]

    def words(first: Any, second: Any) -> Any:
        return call(module_page, "play_tokens.js", "partingWords", first, second)

    assert words(one, one) == "the same 2 tokens as A"
    assert words(one, other) == "as A for 1 token: A “5”, B “7”"
    assert words(one, one[:1]) == "as A for 1 token: A “5”, B ends"
    assert words(other[1:], one) == "parts from A at its first token: A “7”, B “2”"
