"""Ratings and preference pairs by REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Dataset
from tests.orchestrator.compared import compared, judged, voted

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db(transaction=True)
SORT = "application/json"


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def comparison(ada: User, bob: User) -> Comparison:
    made = compared(ada, items=12)
    for number in range(12):
        voted(made, ada, number, "left" if number % 3 else "both-bad")
        voted(made, bob, number, "left", ("tuned", "base") if number % 2 else ("base", "tuned"))
        judged(made, number, "tie")
    return made


@pytest.mark.parametrize("query", ["", "?style=true", "?weights=true", "?style=1&weights=1"])
def test_viewers_read_ratings(
    client: Client, vera: User, bearer: Any, comparison: Comparison, query: str
) -> None:
    url = f"/api/comparisons/{comparison.pk}/ratings{query}"
    found = client.get(url, headers=bearer(vera, "read"))
    assert found.status_code == 200, found.content
    shape = found.json()
    assert shape["arms"] == ["base", "tuned"]
    assert (shape["people"]["votes"], shape["models"]["votes"]) == (24, 12)
    assert len(shape["people"]["ratings"]) == 2
    assert shape["style_control"] == ("style" in query)
    low, high = shape["people"]["ratings"][0]["interval"]
    assert low <= shape["people"]["ratings"][0]["rating"] <= high


def test_an_unknown_comparison_is_404(client: Client, vera: User, bearer: Any) -> None:
    answer = client.get("/api/comparisons/aaaaaaaaaaaa/ratings", headers=bearer(vera, "read"))
    assert answer.status_code == 404 and "no such comparison" in answer.json()["detail"]


def test_pairs_are_stored_by_operators(
    client: Client, bob: User, vera: User, bearer: Any, comparison: Comparison
) -> None:
    url = f"/api/comparisons/{comparison.pk}/preferences"
    assert client.post(url, {}, SORT, headers=bearer(vera)).status_code == 403
    made = client.post(url, {"name": "mine", "weighted": True}, SORT, headers=bearer(bob))
    assert made.status_code == 201, made.content
    dataset = Dataset.objects.get(pk=made.json()["dataset"])
    assert (dataset.name, dataset.owner, dataset.rows) == ("mine", bob, made.json()["pairs"])
    assert sum(made.json()["left_out"].values()) + dataset.rows == 12


@pytest.mark.parametrize(
    "body",
    [
        {"against": ["nothing"]},
        {"against": ["\x00"]},
        {"against": "x"},
        {"against": [""]},
        {"against": ["run:"]},
        {"against": [{}]},
        {"against": ["a" * 12] * 21},
        {"against": ["x" * 5000]},
        {"name": "x" * 500},
        {"weighted": []},
        {"more": 1},
    ],
    ids=lambda body: str(body)[:40],
)
def test_odd_exports_are_refused(
    client: Client, bob: User, bearer: Any, comparison: Comparison, body: dict[str, Any]
) -> None:
    url = f"/api/comparisons/{comparison.pk}/preferences"
    answer = client.post(url, body, SORT, headers=bearer(bob))
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not Dataset.objects.exists()
