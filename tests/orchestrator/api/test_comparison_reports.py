"""Reports: whole, closed to the outside, and safe to open whatever models wrote."""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.selectors.comparison_document import DRAW, content_policy, plotly_script
from tests.orchestrator.answered import imported

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture
def made(ada: User) -> Comparison:
    rows = [
        {
            "prompt": f"p{number} {EVIL}", "arm": arm, "index": index, "text": f"=1+{EVIL}",
            "scores": {"good": None if (number, arm, index) == (3, "b", 1) else (number + index) % 2},
        }
        for number in range(12) for arm in ("a", "b") for index in range(2)
    ]  # fmt: skip
    rows += [
        {"prompt": f"q{number} {EVIL}", "arm": arm, "text": "", "index": index, "scores": {"good": arm == "b"}}
        for number in range(12) for arm in "ab" for index in range(2)
    ]  # fmt: skip
    return imported(ada, rows, f"name {EVIL}")


@pytest.fixture
def get(client: Client, bearer: Any, vera: User, made: Comparison) -> Any:
    def got(ending: str) -> Any:
        return client.get(f"/api/comparisons/{made.pk}/report.{ending}", headers=bearer(vera))

    return got


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(get: Any) -> None:
    answer = get("html")
    page = answer.text
    assert answer.status_code == 200 and "attachment" in answer["Content-Disposition"]
    assert answer["Content-Security-Policy"] == content_policy()
    assert f'content="{escape(content_policy())}"' in page
    own = page.replace(plotly_script(), "")
    assert not re.search(r"""(src|href)\s*=\s*["']""", own), "a request would leave the file"
    scripts = re.findall(r"<script(?![^>]*application/json)[^>]*>", own)
    assert len(scripts) == 2 and DRAW in own
    assert EVIL not in own and "&lt;script&gt;alert" in own
    assert "url(" not in own


def test_the_page_holds_verdicts_regressions_and_failures(get: Any) -> None:
    page = get("html").text
    assert "is better than" in page or "not enough data" in page or "no difference found" in page
    assert "Solved by a, lost by b" in page
    assert "1 failed" in page
    assert 'data-figure="forest-0"' in page and 'data-figure="passes-0"' in page


def test_json_holds_every_finding(get: Any, made: Comparison) -> None:
    found = json.loads(get("json").content)
    assert found["comparison"]["id"] == made.pk
    assert [one["scorer"] for one in found["evidence"]] == ["good"]
    assert found["evidence"][0]["findings"][0]["left_out"]["samples"] == 1
    assert found["examples"] and found["regressions"][0]["a"] == "a"


def test_csv_has_a_line_an_answer_and_no_score_for_what_failed(get: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(get("csv").text)))
    assert len(rows) == 24 * 2 * 2
    failed = [row for row in rows if row["problem"]]
    assert [(row["arm"], row["sample"], row["score"]) for row in failed] == [("b", "1", "")]
    assert {row["score"] for row in rows} == {"0.0", "1.0", ""}


def test_no_spreadsheet_takes_a_name_for_a_formula(
    ada: User, vera: User, client: Client, bearer: Any
) -> None:
    mark = {"is_correct": True}
    made = imported(ada, [{"question": "q", "=cmd()": mark, "@b": mark}])
    found = client.get(f"/api/comparisons/{made.pk}/report.csv", headers=bearer(vera)).text
    arms = {row["arm"] for row in csv.DictReader(io.StringIO(found))}
    assert arms == {"'=cmd()", "'@b"}
