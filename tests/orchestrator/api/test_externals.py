"""External models by REST."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import External
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.model_folder import model_write

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User


@pytest.fixture
def ask(client: Client, bearer: Any) -> Any:
    def send(method: str, path: str, user: User, body: Any = None, scope: str = "admin") -> Any:
        return client.generic(
            method, f"/api{path}", json.dumps(body or {}), "application/json",
            headers=bearer(user, scope),
        )  # fmt: skip

    return send


def test_a_folder_is_registered_listed_changed_and_forgotten(
    ask: Any, ada: User, bob: User, vera: User, tmp_path: Path
) -> None:
    folder = model_write(tmp_path / "base")
    made = ask("POST", "/externals", ada, {"source": str(folder), "tags": ["x"]})
    assert made.status_code == 201 and made["Location"].endswith(made.json()["id"])
    found = made.json()
    assert found["facts"]["vocab_size"] == 64 and found["kind"] == "path"
    path = f"/externals/{found['id']}"
    assert ask("GET", path, vera, scope="read").json() == found
    assert ask("PATCH", path, ada, {"stage": "candidate", "name": "B"}).json()["name"] == "B"
    assert_problem(ask("PATCH", path, bob, {"name": "C"}), 403)
    assert_problem(ask("PATCH", path, ada, {"name": " "}), 422)
    assert ask("POST", f"{path}/read", ada).json()["stage"] == "candidate"
    assert ask("GET", f"{path}/lineage", vera).json()["title"] == "B"
    whats = [one["what"] for one in ask("GET", f"{path}/changes", vera).json()]
    assert sorted(whats) == ["name", "registered", "stage"]
    for query, count in (
        ("", 1),
        ("?stage=candidate", 1),
        ("?stage=", 0),
        ("?tag=x", 1),
        ("?pinned=true", 0),
        ("?q=base", 1),
        ("?q=nothing", 0),
    ):
        assert ask("GET", f"/externals{query}", vera).json()["count"] == count, query
    ask("PATCH", path, ada, {"pinned": True})
    assert "It is pinned" in assert_problem(ask("DELETE", path, ada), 409)["detail"]
    ask("PATCH", path, ada, {"pinned": False})
    assert_problem(ask("DELETE", path, bob), 403)
    assert ask("DELETE", path, ada).status_code == 204
    assert_problem(ask("GET", path, ada), 404)
    assert (folder / "config.json").is_file()


def test_what_cannot_be_registered_says_why(ask: Any, ada: User, vera: User) -> None:
    body = assert_problem(ask("POST", "/externals", ada, {"source": "/nothing/here"}), 422)
    assert body["detail"] == "source: /nothing/here is not there"
    assert_problem(ask("POST", "/externals", ada, {"source": "N/M", "trust": True}), 422)
    assert_problem(ask("POST", "/externals", vera, {"source": "N/M"}), 403)
    assert_problem(ask("POST", "/externals", ada, {"source": "N/M"}, scope="read"), 403)
    assert not External.objects.exists()


def test_a_run_is_launched_from_it(ask: Any, ada: User) -> None:
    made = ask("POST", "/externals", ada, {"source": "NAME/MODEL", "revision": "abc"}).json()
    spec = {
        "objective": {"type": "sft"},
        "data": {"train": [{"source": "arithmetic"}]},
        "model": {"name": f"external:{made['id']}"},
    }
    response = ask("POST", "/runs", ada, {"spec": spec})
    assert response.status_code == 201, response.content
    spec["model"]["name"] = "external:aaaaaaaaaaaa"
    body = assert_problem(ask("POST", "/runs", ada, {"spec": spec}), 422)
    assert body["errors"][0]["path"] == "spec.model.name"


def test_every_route_of_the_registry_is_described(ask: Any, vera: User) -> None:
    paths = ask("GET", "/openapi.json", vera).json()["paths"]
    wanted = {
        "/api/checkpoints": {"get"},
        "/api/checkpoints/{checkpoint_id}": {"get", "patch", "delete"},
        "/api/checkpoints/{checkpoint_id}/lineage": {"get"},
        "/api/checkpoints/{checkpoint_id}/changes": {"get"},
        "/api/checkpoints/{checkpoint_id}/tar": {"get"},
        "/api/externals": {"get", "post"},
        "/api/externals/{external_id}": {"get", "patch", "delete"},
        "/api/externals/{external_id}/read": {"post"},
        "/api/externals/{external_id}/lineage": {"get"},
        "/api/externals/{external_id}/changes": {"get"},
        "/api/retention": {"get", "post"},
        "/api/runs/{run_id}/retention": {"get", "post"},
    }
    for path, methods in wanted.items():
        assert paths[path].keys() == methods, path
        assert all(one["description"] for one in paths[path].values()), path
