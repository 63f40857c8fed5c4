"""The JavaScript that decides which words and which tokens are marked, without a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_modules import call

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def diff(page: Page, one: str, other: str) -> Any:
    parts = call(page, "word_diff.js", "wordDiff", one, other)
    return parts and [(part["kind"], part["text"]) for part in parts]


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        ("", "", []),
        ("same words", "same words", [("same", "same words")]),
        ("a b c", "a x c", [("same", "a "), ("removed", "b"), ("added", "x"), ("same", " c")]),
        ("16 - 3", "16 - 3 - 4", [("same", "16 - 3"), ("added", " - 4")]),
        ("<b>x</b>", "", [("removed", "<b>x</b>")]),
        ("größer", "größe", [("removed", "größer"), ("added", "größe")]),
    ],
)
def test_words_that_differ_are_told(
    module_page: Page, one: str, other: str, parts: list[tuple[str, str]]
) -> None:
    assert diff(module_page, one, other) == parts


def test_a_diff_is_both_texts(module_page: Page) -> None:
    one = "She sells 9 eggs a day, so she makes 9 * 2 = $18 every day.\nA: 18"
    other = "Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18.\nA: 18"
    parts = diff(module_page, one, other)
    assert "".join(text for kind, text in parts if kind != "added") == one
    assert "".join(text for kind, text in parts if kind != "removed") == other


def test_texts_too_long_to_wait_for_are_not_compared(module_page: Page) -> None:
    words = " ".join(str(number) for number in range(2000))
    assert diff(module_page, words, words[::-1]) is None
    assert diff(module_page, words, words + " end") is not None, "what they share costs nothing"


def test_tokens_are_coloured_by_who_finds_them_likelier(module_page: Page) -> None:
    tokens = [
        {"text": "a", "id": 1, "own": -0.1, "other": -2.1},
        {"text": " ", "id": 2, "own": -3.0, "other": -0.5},
        {"text": "", "id": 3, "own": -0.1, "other": -90.0},
    ]
    reading = {"reader": "b", "problem": "", "tokens": tokens, "apart": 0, "kl": 89.4}
    cells = call(module_page, "token_heat.js", "cells", reading)
    assert [cell["text"] for cell in cells] == ["a", "·", "#3"]
    assert [cell["side"] for cell in cells] == ["author", "reader", "author"]
    assert [cell["apart"] for cell in cells] == [True, False, False]
    assert [round(cell["strength"], 3) for cell in cells] == [0.5, 0.625, 1]
    line = call(module_page, "token_heat.js", "headline", reading)
    assert line == "Read by b: apart first at token 1; 89.40 nats over 3 tokens"
    told = {"reader": "b", "problem": "another vocabulary"}
    assert call(module_page, "token_heat.js", "headline", told) == "Read by b: another vocabulary"
