"""Ratings as tables and figures of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.selectors.rating_tables import blocks_shown, figure_of
from orchestrator.selectors.ratings import ratings_shape
from tests.orchestrator.compared import compared, judged, voted

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def test_wins_and_judges(ada: User, bob: User) -> None:
    comparison = compared(ada, arms=("tie", "b", "c"), items=6)
    for number in range(6):
        voted(comparison, ada, number, "left", ("tie", "b"))
        voted(comparison, bob, number, "right" if number else "tie", ("b", "tie"))
        voted(comparison, bob, number, "left", ("b", "c"))
    found = ratings_shape(comparison)
    (block,) = blocks_shown(found)
    assert block["order"] == ["tie", "b", "c"] == [one["arm"] for one in figure_of(block)]
    first = block["matrix"][0]["cells"]
    assert first[0]["own"] and first[1]["share"] == 11.5 / 12 and not first[2]["votes"]
    assert first[1]["words"] == "11 won, 0 lost, 1 neither"
    ada_row = block["judge_rows"][0]
    assert (ada_row["judge"], ada_row["shared"]) == ("ada", 6)
    assert ada_row["kappa_words"].startswith("bob: ")


def test_judge_models_have_a_block_where_there_are_any(ada: User) -> None:
    comparison = compared(ada)
    assert [one["kind"] for one in blocks_shown(ratings_shape(comparison))] == ["people"]
    judged(comparison, 0, "", problem="nonsense")
    kinds = [one["kind"] for one in blocks_shown(ratings_shape(comparison))]
    assert kinds == ["people", "models"], "failures alone are told too"
