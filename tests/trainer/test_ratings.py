"""Ratings: numbers, lists and names; every row rates the same."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from trainer.ratings import qualities_of, ratings_of
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from pathlib import Path

WANTED = frozenset({"prompt", "completion", "rating"})


def rows(*ratings: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"p{i}", "completion": "c", "rating": r} for i, r in enumerate(ratings)]


def test_a_rating_is_a_number_a_list_or_numbers_by_name() -> None:
    assert ratings_of(3) == {"rating": 3.0}
    assert ratings_of([1, 2.5]) == {"rating-0": 1.0, "rating-1": 2.5}
    assert list(ratings_of({"tone": 2, "help": 1})) == ["help", "tone"]
    assert math.isnan(ratings_of([None, 1])["rating-0"])
    assert math.isnan(ratings_of(float("nan"))["rating"])


@pytest.mark.parametrize(
    ("ratings", "fault"),
    [
        ([1, "good"], r"row 2: 'rating' must be a number.*it is 'good'"),
        ([1, True], "row 2: .*it is True"),
        (
            [[1, 2], [1]],
            "row 2: 'rating' rates rating-0, but the rows before rate rating-0, rating-1",
        ),
        ([{"a": 1}, {"a": 1}, {"b": 1}], "row 3: 'rating' rates b, but the rows before rate a"),
        ([{}], "row 1: 'rating' holds no number"),
        ([{"a": float("inf")}], "row 1: .*a is infinite"),
        ([{"a": {"b": 1}}], "row 1: .*a is {'b': 1}"),
        ([1, [1]], "row 2: 'rating' rates rating-0, but the rows before rate rating"),
    ],
)
def test_a_row_that_differs_is_named(ratings: list[Any], fault: str) -> None:
    with pytest.raises(ValueError, match=f"here: {fault}"):
        qualities_of(rows(*ratings), "here")


def test_rows_are_checked_when_they_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    good = rows({"b": 1, "a": None}, {"a": 0, "b": 2}, 0)
    path.write_text("".join(json.dumps(row) + "\n" for row in good[:2]))
    source = DataSource(source=str(path))
    assert rows_load(source, seed=0, wanted=WANTED).rows == good[:2]
    path.write_text("".join(json.dumps(row) + "\n" for row in good))
    with pytest.raises(ValueError, match=r"rated\.jsonl: row 3: 'rating' rates rating, but"):
        rows_load(source, seed=0, wanted=WANTED)


def test_a_rating_of_zero_is_a_rating_and_none_drops_the_row(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(0, None, 0.0)))
    loaded = rows_load(DataSource(source=str(path)), seed=0, wanted=WANTED)
    assert [row["prompt"] for row in loaded.rows] == ["p0", "p2"]
    assert loaded.dropped == {"rating is empty": 1}
