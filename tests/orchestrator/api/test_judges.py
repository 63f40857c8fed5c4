"""Judges by REST: start, list, ask again, remove; refusals, roles, the report, and the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Comparison, Run
from tests.orchestrator.answered import checkpoint_add, checkpoint_make, dataset_make
from tests.orchestrator.compared import EXACT, compared, judged, scored

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
JUDGE = {"url": "http://127.0.0.1:9/v1", "model": "wise"}


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def send(client: Client, bearer: Any) -> Any:
    def sent(user: User, method: str, path: str, body: Any = None) -> Any:
        words = {} if body is None else {"data": json.dumps(body)}
        return client.generic(
            method, f"/api/comparisons{path}", content_type="application/json",
            headers=bearer(user), **words,
        )  # fmt: skip

    return sent


@pytest.fixture
def comparison(ada: User) -> Comparison:
    found = compared(ada, items=12, scorers=[EXACT])
    scored(found, lambda arm, number: 1.0)
    return found


def test_start_look_ask_again_remove(
    send: Any, ada: User, bob: User, vera: User, comparison: Comparison
) -> None:
    path = f"/{comparison.pk}/judges"
    assert send(vera, "GET", path).json() == {"items": [], "count": 0}
    assert send(vera, "POST", path, JUDGE).status_code == 403
    assert send(bob, "POST", path, JUDGE).status_code == 403
    made = send(ada, "POST", path, {**JUDGE, "instruction": "be strict"})
    assert made.status_code == 201, made.content
    digest = made.json()["digest"]
    assert (made.json()["state"], made.json()["swap"]) == ("waiting", True)
    for number in range(12):
        judged(comparison, number, "right", judge=digest)
        judged(comparison, number, "left", ("tuned", "base"), judge=digest)
    Run.objects.update(state="finished", process="exited")
    (found,) = send(vera, "GET", path).json()["items"]
    assert found["state"] == "ready" and found["pairs"]["there"] == 12
    assert found["findings"][0]["win"]["share"] == 1 and found["order"]["share"] == 0
    assert found["findings"][0]["lengths"]["length_controlled"] == pytest.approx(1, abs=0.01)
    assert found["knobs"]["instruction"] == "be strict"
    again = send(ada, "POST", f"{path}/{digest}/ask", {})
    assert again.status_code == 409 and "nothing to ask" in again.json()["detail"]
    assert send(ada, "POST", f"{path}/{'0' * 64}/ask", {}).status_code == 404
    assert send(bob, "DELETE", f"{path}/{digest}").status_code == 403
    report = send(vera, "GET", f"/{comparison.pk}/report.json").json()
    assert (
        report["judges"][0]["findings"][0]["verdict"]["word"]
        == found["findings"][0]["verdict"]["word"]
    )
    html = send(vera, "GET", f"/{comparison.pk}/report.html").content.decode()
    assert "Judged by wise" in html
    lines = send(vera, "GET", f"/{comparison.pk}/report.csv").content.decode().splitlines()
    assert sum(f"judge wise {digest[:8]} against base,1.0" in line for line in lines) == 12
    assert send(ada, "DELETE", f"{path}/{digest}").status_code == 204
    assert send(ada, "DELETE", f"{path}/{digest}").status_code == 404


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ({"url": ""}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://[fe80::1]/v1"}, "url"),
        ({"key_variable": "AWS_SECRET_ACCESS_KEY"}, "key_variable"),
        ({"repeats": 2}, "repeats"),
        ({"left": "nobody", "right": "base"}, "left"),
    ],
)
def test_a_faulty_field_is_named(
    send: Any, ada: User, comparison: Comparison, words: dict[str, Any], path: str
) -> None:
    answer = send(ada, "POST", f"/{comparison.pk}/judges", {**JUDGE, **words})
    assert answer.status_code == 422
    assert path in [error["path"] for error in answer.json()["errors"]]
    assert not Run.objects.exists()


def test_an_order_names_judges(send: Any, ada: User) -> None:
    one = checkpoint_make(ada)
    order = {
        "checkpoints": [f"checkpoint:{one.pk}", f"checkpoint:{checkpoint_add(one.run, 20).pk}"],
        "prompts": [{"source": dataset_make(ada).pk}],
        "scorers": [EXACT],
    }
    wrong = send(ada, "POST", "", {**order, "judges": [JUDGE, {**JUDGE, "url": "gopher://x/v1"}]})
    assert wrong.status_code == 422
    assert [error["path"] for error in wrong.json()["errors"]] == ["judges.1.url"]
    made = send(ada, "POST", "", {**order, "judges": [JUDGE]})
    assert made.status_code == 201, made.content
    (found,) = send(ada, "GET", f"/{made.json()['id']}/judges").json()["items"]
    assert (found["state"], found["runs"], found["pairs"]["unanswered"]) == ("waiting", [], 12)


def test_the_page_starts_a_judge_and_keeps_what_was_typed(
    client: Client, ada: User, bob: User, comparison: Comparison
) -> None:
    client.force_login(bob)
    path = f"/compare/{comparison.pk}/judges/"
    assert client.post(path, JUDGE).status_code == 403
    client.force_login(ada)
    wrong = client.post(path, {**JUDGE, "url": "ftp://typed/v1", "swap": "on"})
    assert wrong.status_code == 422
    page = wrong.content.decode()
    assert "ftp://typed/v1" in page and "url: must begin with http" in page
    assert client.post(path, {**JUDGE, "swap": "on", "repeats": "x"}).status_code == 422
    started = client.post(path, {**JUDGE, "swap": "on", "repeats": "1", "temperature": "0"})
    assert started.status_code == 302
    comparison.refresh_from_db()
    digest = comparison.judges[0]["digest"]
    for number in range(12):
        judged(
            comparison,
            number,
            "",
            judge=digest,
            problem="the judge's last line is no verdict: 'eh'",
        )
        judged(
            comparison, number, "", ("tuned", "base"), judge=digest,
            problem="the judge did not answer: HTTP 500",
        )  # fmt: skip
    Run.objects.update(state="finished", process="exited")
    for place in (f"/compare/{comparison.pk}/", path):
        page = client.get(place).content.decode()
        assert "Judged by wise" in page and "12 of 12 pairs got no verdict" in page
        assert "is no verdict (12)" in page and "did not answer (12)" in page
        assert "Ask again about 12" in page
    assert client.post(f"{path}{digest}/again/").status_code == 302
    assert Run.objects.count() == 2
    assert client.post(f"{path}{digest}/dance/").status_code == 404
    assert client.post(f"{path}{digest}/remove/").status_code == 302
    comparison.refresh_from_db()
    assert comparison.judges == []
