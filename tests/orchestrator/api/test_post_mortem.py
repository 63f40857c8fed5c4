"""The post-mortem by REST: its shape, its words in OpenAPI, and what is said where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.interface import api
from orchestrator.selectors.post_mortem_text import HELP
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def get(client: Client, run: Run, vera: User, bearer: Any) -> Any:
    headers = bearer(vera, "read")

    def read(**query: Any) -> Any:
        return client.get(f"/api/runs/{run.pk}/post-mortem", query, headers=headers)

    return read


def test_it_says_what_happened(run: Run, get: Any) -> None:
    story = Story(run).begin().steps(1, 20).save(20).steps(21, 25).prints("train 25/60")
    story.steps(26, 26, loss="NaN", grad_norm="Infinity")
    story.fails("nan", "step 26: loss became nan")
    found = get().json()
    assert (found["cause"], found["exit_code"], found["signal"]) == ("nan", 1, "")
    assert (found["first"]["step"], found["healthy"]["step"]) == (26, 25)
    assert found["healthy"]["checkpoint"] == {
        "id": run.checkpoints.get().pk, "step": 20, "attempt": 1, "kept": True, "saved_again": False,
    }  # fmt: skip
    assert [line["text"] for line in found["log"]] == ["train 25/60"]
    assert found["markdown"].startswith("## Post-mortem: tiny, attempt 1 of 1\n")
    assert found["link"] == f"/runs/{run.pk}/post-mortem/?attempt=1"
    assert get(attempt=1).json()["first"] == found["first"]


def test_where_there_is_none_a_sentence_says_why(run: Run, get: Any, client: Client) -> None:
    response = get()
    assert_problem(response, 404)
    assert response.json()["detail"] == (
        "There is no post-mortem of this run: none of its attempts ended badly."
    )
    response = get(attempt=9)
    assert_problem(response, 404)
    assert response.json()["detail"] == "This run has no attempt 9; it has had 1."


@pytest.mark.parametrize("asked", ["first", "-1", "1.5", str(2**31)])
def test_a_number_that_is_none_is_refused_by_its_name(get: Any, asked: str) -> None:
    response = get(attempt=asked)
    assert_problem(response, 422)
    assert response.json()["errors"][0]["path"] == "attempt"


def test_it_is_open_to_nobody_without_a_login(client: Client, run: Run) -> None:
    assert client.get(f"/api/runs/{run.pk}/post-mortem").status_code == 401


def test_openapi_has_the_words_of_the_page() -> None:
    schema = api.get_openapi_schema()
    fields = schema["components"]["schemas"]["PostMortem"]["properties"]
    for name in ("cause", "said_by", "outcome", "healthy", "first", "signals", "stall", "log"):
        assert fields[name]["description"] == HELP[name], name
    [asked] = [
        one
        for one in schema["paths"]["/api/runs/{run_id}/post-mortem"]["get"]["parameters"]
        if one["name"] == "attempt"
    ]
    assert "the newest that ended badly" in asked["schema"]["description"]
