"""Who may call the API, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from orchestrator.models import ApiToken, Run

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db

Headers = "Callable[..., dict[str, str]]"


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    return body


def test_it_asks_strangers_who_they_are(client: Client, run: Run) -> None:
    response = client.get(f"/api/runs/{run.pk}")
    assert_problem(response, 401)
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_session_may_look(client: Client, run: Run, vera: User) -> None:
    client.force_login(vera)
    assert client.get(f"/api/runs/{run.pk}").json()["id"] == run.pk


def test_a_token_may_look(client: Client, run: Run, vera: User, bearer: Any) -> None:
    assert client.get(f"/api/runs/{run.pk}", headers=bearer(vera, "read")).status_code == 200


def test_a_session_needs_its_csrf_token_to_change(run: Run, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert_problem(client.post(f"/api/runs/{run.pk}/stop", content_type="application/json"), 403)
    run.refresh_from_db()
    assert run.desired == "run"


def test_a_token_needs_none(run: Run, ada: User, bearer: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post(
        f"/api/runs/{run.pk}/stop", content_type="application/json", headers=bearer(ada, "operate")
    )
    assert response.status_code == 200, response.content
    run.refresh_from_db()
    assert run.desired == "stop"


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic YTpi", "wrong"])
def test_a_bad_token_is_refused(client: Client, run: Run, header: str) -> None:
    assert_problem(client.get(f"/api/runs/{run.pk}", headers={"Authorization": header}), 401)


def test_a_bad_token_is_refused_beside_a_session(client: Client, run: Run, ada: User) -> None:
    client.force_login(ada)
    response = client.get(f"/api/runs/{run.pk}", headers={"Authorization": "Bearer wrong"})
    assert_problem(response, 401)


def test_a_revoked_token_is_refused(client: Client, run: Run, ada: User, bearer: Any) -> None:
    headers = bearer(ada)
    ApiToken.objects.update(revoked="2026-01-01T00:00:00Z")
    assert_problem(client.get("/api/runs", headers=headers), 401)


def test_the_token_of_an_account_that_was_switched_off_is_refused(
    client: Client, ada: User, bearer: Any
) -> None:
    headers = bearer(ada)
    ada.is_active = False
    ada.save()
    assert_problem(client.get("/api/runs", headers=headers), 401)


def test_a_scope_caps_the_role(
    client: Client, run: Run, alma: User, ada: User, bearer: Any
) -> None:
    assert_problem(
        client.post(
            f"/api/runs/{run.pk}/stop", content_type="application/json", headers=bearer(ada, "read")
        ),
        403,
    )
    assert_problem(
        client.post(
            f"/api/runs/{run.pk}/stop",
            content_type="application/json",
            headers=bearer(alma, "operate"),
        ),
        403,
    )
    assert (
        client.post(
            f"/api/runs/{run.pk}/stop",
            content_type="application/json",
            headers=bearer(alma, "admin"),
        ).status_code
        == 200
    )


def test_a_scope_gives_no_more_than_the_role(
    client: Client, run: Run, vera: User, bearer: Any
) -> None:
    assert_problem(
        client.post(
            f"/api/runs/{run.pk}/stop",
            content_type="application/json",
            headers=bearer(vera, "admin"),
        ),
        403,
    )


def test_another_operator_may_not_change_a_run(
    client: Client, run: Run, bob: User, bearer: Any
) -> None:
    for verb in ("stop", "pause", "resume", "retry"):
        assert_problem(
            client.post(
                f"/api/runs/{run.pk}/{verb}", content_type="application/json", headers=bearer(bob)
            ),
            403,
        )
    response = client.patch(
        f"/api/runs/{run.pk}", {"name": "mine"}, "application/json", headers=bearer(bob)
    )
    assert_problem(response, 403)
    run.refresh_from_db()
    assert (run.desired, run.name) == ("run", "tiny")


def test_what_does_not_exist_is_a_problem_too(client: Client, ada: User, bearer: Any) -> None:
    assert_problem(client.get("/api/runs/aaaaaaaaaaaa", headers=bearer(ada)), 404)
    assert_problem(client.get("/api/nothing", headers=bearer(ada)), 404)
    assert_problem(client.get("/api/", headers=bearer(ada)), 404)


def test_a_wrong_method_says_which_are_right(client: Client, ada: User, bearer: Any) -> None:
    response = client.delete("/api/runs", headers=bearer(ada))
    assert_problem(response, 405)
    assert "POST" in response["Allow"]


def test_the_documentation_is_for_people_signed_in(client: Client, vera: User, bearer: Any) -> None:
    assert_problem(client.get("/api/openapi.json"), 401)
    page = client.get("/api/docs", headers={"Accept": "text/html"})
    assert (page.status_code, page["Location"]) == (302, "/login/?next=/api/docs")
    assert client.get("/api/openapi.json", headers=bearer(vera, "read")).status_code == 200
    client.force_login(vera)
    assert b"openapi.json" in client.get("/api/docs").content


def test_a_body_that_is_no_json_is_refused(client: Client, ada: User, bearer: Any) -> None:
    response = client.post("/api/runs", "{", "application/json", headers=bearer(ada))
    assert_problem(response, 400)


def test_a_body_that_is_too_large_is_refused(client: Client, ada: User, bearer: Any) -> None:
    body = '{"spec": "' + "x" * (17 * 2**20) + '"}'
    response = client.post("/api/runs", body, "application/json", headers=bearer(ada))
    assert response.status_code in (400, 413)
    assert response["Content-Type"] == "application/problem+json"
