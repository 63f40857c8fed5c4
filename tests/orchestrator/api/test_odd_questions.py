"""No question breaks the server: whatever is asked, the answer is data or a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.orchestrator.compared import compared
from tests.orchestrator.telemetry import lines, push, sample

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db

ODD = [
    "",
    "\x00",
    "a\x00b",
    "%",
    "_",
    "'; DROP TABLE orchestrator_run; --",
    "-1",
    "0",
    "1e999",
    "NaN",
    "Infinity",
    "99999999999999999999999999",
    "null",
    "[]",
    "é\u202e\U0001f600",
    "x" * 5000,
    ",,,",
]
QUESTIONS = {
    "/api/runs": ["state", "kind", "tag", "q", "archived", "order", "page", "per_page"],
    "/api/runs/RUN": ["x"],
    "/api/runs/RUN/keys": ["x"],
    "/api/runs/RUN/series": ["keys", "key", "x", "points", "from", "to", "attempt"],
    "/api/runs/RUN/samples": [
        *("step", "prompt", "group", "min_reward", "max_reward", "text", "page", "per_page"),
    ],
    "/api/runs/RUN/events": ["type", "page", "per_page"],
    "/api/runs/RUN/log": ["lines", "before"],
    "/api/runs/RUN/checkpoints": ["deleted", "page", "per_page"],
    "/api/runs/RUN/lineage": ["keys", "key", "x", "points"],
    "/api/runs/RUN/steering": ["x"],
    "/api/runs/RUN/seams": ["x"],
    "/api/removals": ["page", "per_page"],
    "/api/checkpoints": [
        *("q", "run", "stage", "tag", "pinned", "final", "deleted", "page", "per_page"),
    ],
    "/api/externals": ["q", "stage", "tag", "pinned", "page", "per_page"],
    "/api/retention": ["keep_last", "keep_best", "metric", "keep_every", "older_than_days"],
    "/api/runs/RUN/retention": ["keep_last", "metric"],
    "/api/metrics": ["keys"],
    "/api/recipes": ["x"],
    "/api/comparisons/COMPARISON/ratings": ["style", "weights"],
}


@pytest.mark.parametrize("path", QUESTIONS)
def test_odd_values_get_an_answer(
    client: Client, run: Run, vera: User, bearer: Any, path: str
) -> None:
    push(run, lines(1, 3))
    push(run, [sample(1)], source="samples")
    comparison = compared(vera)
    headers = bearer(vera, "read")
    for name in QUESTIONS[path]:
        for value in ODD:
            place = path.replace("RUN", run.pk).replace("COMPARISON", comparison.pk)
            url = f"{place}?{name}={quote(value)}"
            response = client.get(url, headers=headers)
            assert response.status_code in (200, 404, 422), (
                f"{url[:200]}: {response.content[:300]!r}"
            )
            if response.status_code != 200:
                assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_are_not_found(client: Client, vera: User, bearer: Any, odd: str) -> None:
    headers = bearer(vera, "read")
    for path in (
        "/api/runs/{}/series",
        "/api/checkpoints/{}/files",
        "/api/externals/{}",
        "/api/nothing/{}",
        "/api/comparisons/{}/ratings",
    ):
        response = client.get(path.format(quote(odd, safe="")), headers=headers)
        assert response.status_code in (404, 422), response.content
        assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        *(
            "null",
            "[]",
            "1",
            '"x"',
            "{}",
            '{"spec": null}',
            '{"spec": []}',
            '{"spec": {"name": "\\u0000"}}',
        ),
        '{"spec": {"model": {"options": {"a": NaN}}}}',
        '{"spec": {"seed": 1e400}}',
        '{"spec": {"objective": {"type": ["sft"]}}}',
        '{"spec": {"objective": "sft"}}',
        '{"spec": {"data": {"train": [{"source": "\\u0000"}]}, "objective": {"type": "sft"}}}',
        '{"spec": {"notes": "' + "[" * 1000 + '"}}',
        "[" * 50_000,
        '{"spec": {"objective": {"type": "sft"}}, "name": "a\\u0000b"}',
        '{"spec": {"objective": {"type": "sft"}}, "tags": ["\\ud800"]}',
    ],
    ids=lambda body: body[:60],
)
def test_odd_bodies_are_refused(client: Client, ada: User, bearer: Any, body: str) -> None:
    headers = bearer(ada)
    for path in ("/api/runs", "/api/runs/validate"):
        response = client.post(path, body, "application/json", headers=headers)
        expected = (400, 422) if path == "/api/runs" else (200, 400, 422)
        assert response.status_code in expected, (path, response.content)


@pytest.mark.parametrize("odd", [*ODD[1:], "k" * 201, "ö"])
def test_odd_keys_never_break_a_launch(client: Client, ada: User, bearer: Any, odd: str) -> None:
    headers = {**bearer(ada), "Idempotency-Key": odd}
    body = {"spec": {"objective": {"type": "sft"}}}
    response = client.post("/api/runs", body, "application/json", headers=headers)
    assert response.status_code in (201, 422), response.content
