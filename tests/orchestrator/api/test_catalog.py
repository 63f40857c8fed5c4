"""What can be launched, by REST and in OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def get(client: Client, vera: User, bearer: Any) -> Any:
    headers = bearer(vera, "read")
    return lambda path, **query: client.get(path, query, headers=headers)


def test_the_catalogue_lists_methods_with_their_knobs(get: Any) -> None:
    methods = get("/api/catalog").json()["methods"]
    assert {"grpo", "dpo", "sft"} <= {entry["type"] for entry in methods}


def test_recipes_carry_their_specs(get: Any) -> None:
    found = get("/api/recipes").json()
    assert found["count"] == len(found["items"]) > 0
    assert all(isinstance(recipe["spec"], dict) and recipe["title"] for recipe in found["items"])
    assert not any("path" in recipe for recipe in found["items"])


def test_metrics_are_explained(get: Any) -> None:
    found = get("/api/metrics", keys="loss,rewards/exact-match/mean").json()
    assert found["loss"]["definition"]
    assert set(found) == {"loss", "rewards/exact-match/mean"}


def test_openapi_shows_every_method_as_a_tagged_union(get: Any) -> None:
    schema = get("/api/openapi.json").json()
    spec = schema["components"]["schemas"]["RunSpec"]["properties"]
    mapping = spec["objective"]["discriminator"]["mapping"]
    assert {"grpo", "dpo", "sft"} <= set(mapping)
    body = schema["paths"]["/api/runs"]["post"]["requestBody"]["content"]["application/json"]
    created = schema["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
    assert created["properties"]["spec"]["$ref"].endswith("/RunSpec")
