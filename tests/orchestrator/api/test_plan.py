"""The plan by REST: its shape, its words in OpenAPI, and how steps are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.interface import api
from orchestrator.selectors.plan import HELP
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.planned import planned

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def get(client: Client, run: Run, vera: User, bearer: Any) -> Any:
    headers = bearer(vera, "read")

    def read(**query: Any) -> Any:
        return client.get(f"/api/runs/{run.pk}/plan", query, headers=headers)

    return read


def test_it_gives_spans_sums_and_bottleneck(run: Run, get: Any) -> None:
    planned(run, 20, ("update", 3.0), ("checkpoint", 1.0))
    found = get().json()
    assert (found["steps"], len(found["lines"])) == ([9, 20], 12)
    assert found["lines"][0]["spans"][1] == {"phase": "checkpoint", "start": 3.0, "end": 4.0}
    assert found["bottleneck"]["phase"] == "update"
    assert [one["field"] for one in found["suggestions"]] == []
    assert [one["estimated_s"] for one in found["phases"]][1] is None


@pytest.mark.parametrize(("asked", "steps"), [("4", [4]), ("4-6", [4, 5, 6]), ("900-901", [])])
def test_steps_are_asked_for_by_number(run: Run, get: Any, asked: str, steps: list[int]) -> None:
    planned(run, 8)
    found = get(steps=asked).json()
    assert [line["step"] for line in found["lines"]] == steps and found["kept"] == 8


@pytest.mark.parametrize("asked", ["last", "-1", "1-", "1.5", "1-2-3", "9" * 16, "٣"])
def test_what_is_no_range_is_refused_by_its_name(get: Any, asked: str) -> None:
    response = get(steps=asked)
    assert_problem(response, 422)
    assert response.json()["errors"][0]["path"] == "steps"


def test_a_range_that_ends_before_it_begins_is_refused(get: Any) -> None:
    response = get(steps="7-3")
    assert_problem(response, 422)
    assert "steps: 7-3 ends before it begins" in response.json()["detail"]


def test_a_run_without_steps_says_when_it_appears(get: Any) -> None:
    found = get().json()
    assert "first step" in found["words"] and found["lines"] == [] and found["steps"] is None


def test_it_is_open_to_nobody_without_a_login(client: Client, run: Run) -> None:
    assert client.get(f"/api/runs/{run.pk}/plan").status_code == 401


def test_openapi_has_the_words_of_the_page() -> None:
    schemas = api.get_openapi_schema()["components"]["schemas"]
    for name in ("p50_s", "share", "path_share", "estimated_s", "basis"):
        assert schemas["PlanPhase"]["properties"][name]["description"] == HELP[name]
    assert schemas["Plan"]["properties"]["bottleneck"]["description"] == HELP["bottleneck"]
