"""Filters and regressions, held against a plain reading of the same scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orchestrator.selectors.comparison_pairs import SHOWS, counts_of, pairs_page, places_of, view_of
from orchestrator.selectors.comparison_regressions import (
    regressions_of,
    regressions_page,
    solves_more_often,
)
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparisons import comparison_get
from orchestrator.services.comparisons import comparison_create
from tests.orchestrator.answered import answers_put, checkpoint_make, dataset_make, imported

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def made(ada: User) -> Comparison:
    """30 prompts, 3 arms, 4 samples, right and wrong by chance; some answers failed."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"prompt {prompt}", "arm": arm, "index": index, "text": "x" * int(draw.integers(1, 99)),
            "scores": {"good": None if draw.random() < 0.1 else int(draw.random() < 0.5)},
        }
        for prompt in range(30) for arm in "abc" for index in range(4)
    ]  # fmt: skip
    found = comparison_get(imported(ada, rows).pk)
    assert found is not None
    return found


def plain(comparison: Comparison, **words: Any) -> dict[int, dict[str, Any]]:
    """Every prompt by its number, all on one page."""
    sheet = sheet_of(comparison)
    view = view_of(comparison, sheet, **words)
    found, _ = pairs_page(comparison, per_page=1000, sheet=sheet, view=view)
    return {item["number"]: item for item in found}


def mean(item: dict[str, Any], arm: str) -> float | None:
    [found] = [one for one in item["arms"] if one["arm"] == arm]
    values = [
        value for answer in found["answers"]
        if (value := answer["scores"]["good"]["value"]) is not None
    ]  # fmt: skip
    assert (sum(values) / len(values) if values else None) == pytest.approx(found["mean"])
    return found["mean"]


@pytest.mark.parametrize("show", SHOWS)
def test_filters_keep_what_they_say(made: Comparison, show: Any) -> None:
    whole = plain(made)
    two = {number: (mean(item, "b"), mean(item, "c")) for number, item in whole.items()}
    rules = {
        "all": lambda b, c: True,
        "longest": lambda b, c: True,
        "a-wins": lambda b, c: None not in (b, c) and b > c,
        "b-wins": lambda b, c: None not in (b, c) and c > b,
        "both-fail": lambda b, c: b == c == 0,
        "disagree": lambda b, c: None not in (b, c) and b != c,
        "left-out": lambda b, c: None in (b, c),
    }
    wanted = {number for number, pair in two.items() if rules[show](*pair)}
    found = plain(made, a="b", b="c", show=show)
    assert set(found) == wanted
    sheet = sheet_of(made)
    assert counts_of(sheet, view_of(made, sheet, a="b", b="c"))[show] == len(wanted)
    if show in ("a-wins", "b-wins", "disagree"):
        gaps = [abs(two[number][0] - two[number][1]) for number in found]
        assert gaps == sorted(gaps, reverse=True)


def test_the_longest_come_first(made: Comparison) -> None:
    found = plain(made, show="longest")
    longest = [
        max(len(answer["text"]) for arm in item["arms"][:2] for answer in arm["answers"])
        for item in found.values()
    ]
    assert longest == sorted(longest, reverse=True)


def test_pages_and_words_are_parts_of_the_whole(made: Comparison) -> None:
    sheet = sheet_of(made)
    whole = [item["number"] for item in plain(made).values()]
    pages = [pairs_page(made, page=page, per_page=7)[0] for page in range(1, 6)]
    assert [item["number"] for page in pages for item in page] == whole
    view = view_of(made, sheet, q="prompt 2")
    assert {sheet.numbers[place] for place in places_of(made, sheet, view)} == {3, *range(21, 31)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"a": "z"}, "a: there is no arm 'z'; use a, b, c"),
        ({"a": "a", "b": "a"}, "b: is the same arm as a"),
        ({"scorer": "none"}, "scorer: there is no 'none' here; use good"),
        ({"show": "odd"}, "show: must be one of all"),
    ],
)
def test_what_is_not_there_is_named(made: Comparison, words: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        view_of(made, sheet_of(made), **words)
    assert message in str(caught.value)


def test_regressions_are_what_a_solves_more_often(made: Comparison) -> None:
    whole = plain(made)
    wanted = {
        number for number, item in whole.items()
        if None not in (mean(item, "a"), mean(item, "c")) and mean(item, "a") > mean(item, "c")
    }  # fmt: skip
    sheet = sheet_of(made)
    view = view_of(made, sheet, a="a", b="c")
    found, count = regressions_page(made, sheet, view, per_page=1000)
    assert {row["number"] for row in found} == wanted and count == len(wanted)
    certainties = [row["certainty"] for row in found]
    assert certainties == sorted(certainties, reverse=True) and min(certainties) > 0.5
    for row in found:
        one, other = row["solved"]
        assert (one["arm"], other["arm"]) == ("a", "c")
        expected = solves_more_often(
            one["solved"], one["samples"], other["solved"], other["samples"]
        )
        assert row["certainty"] == expected


@pytest.mark.parametrize(
    "counts", [(1, 1, 0, 1), (3, 4, 1, 4), (8, 8, 0, 8), (2, 4, 2, 4), (5, 16, 7, 9)]
)
def test_certainty_is_the_probability_that_it_claims_to_be(counts: tuple[int, ...]) -> None:
    a, of_a, b, of_b = counts
    draw = np.random.default_rng(1)
    one = draw.beta(a + 1, of_a - a + 1, 200_000)
    other = draw.beta(b + 1, of_b - b + 1, 200_000)
    assert solves_more_often(*counts) == pytest.approx((one > other).mean(), abs=0.004)
    assert solves_more_often(*counts) + solves_more_often(b, of_b, a, of_a) == pytest.approx(1)


def test_scores_that_are_not_right_or_wrong_compare_samples(ada: User) -> None:
    rows = [
        {"prompt": "p", "arm": arm, "index": index, "text": "", "scores": {"s": value}}
        for arm, values in (("a", (0.5, 0.9)), ("b", (0.5, 0.1)))
        for index, value in enumerate(values)
    ]
    made = comparison_get(imported(ada, rows).pk)
    sheet = sheet_of(made)
    assert regressions_of(sheet, view_of(made, sheet)) == [(0, (0.5 + 1 + 1 + 1) / 4)]


def test_where_lower_is_better_less_wins(ada: User, settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path
    names = [f"checkpoint:{checkpoint_make(ada, name).pk}" for name in "ab"]
    made = comparison_create(
        owner=ada, checkpoints=names, prompts=[{"source": dataset_make(ada).pk}],
        scorers=[{"type": "perplexity"}],
    )  # fmt: skip
    first, second = made.arms.all()
    answers_put(first, lambda item, index: 9.0)
    answers_put(second, lambda item, index: 3.0)
    made = comparison_get(made.pk)
    sheet = sheet_of(made)
    counts = counts_of(sheet, view_of(made, sheet))
    assert (counts["a-wins"], counts["b-wins"], counts["both-fail"]) == (0, 12, 0)
    assert regressions_of(sheet, view_of(made, sheet)) == []
