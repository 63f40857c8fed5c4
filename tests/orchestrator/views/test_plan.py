"""The card of the plan: tables that say what the bars show, an empty state, nothing that is not escaped."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from tests.orchestrator.planned import planned
from tests.orchestrator.telemetry import push, spans

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def vera_s(client: Client, vera: User) -> Client:
    client.force_login(vera)
    return client


def part(client: Client, run: Run) -> str:
    return client.get(reverse("run-plan", args=[run.pk])).content.decode()


def text(html: str) -> str:
    return " ".join(re.sub(r"<script.*?</script>|<[^>]*>", " ", html, flags=re.S).split())


def test_the_overview_asks_for_it(vera_s: Client, run: Run) -> None:
    html = vera_s.get(reverse("run", args=[run.pk])).content.decode()
    assert f'data-plan data-url="{reverse("run-plan", args=[run.pk])}"' in html
    assert f"/api/runs/{run.pk}/plan" in html


def test_it_says_in_words_and_tables_what_is_drawn(vera_s: Client, run: Run) -> None:
    planned(run, 3, ("rollout", 6.0), ("reward", 1.0), ("update", 3.0))
    html = part(vera_s, run)
    said = text(html)
    assert "Rollout is the bottleneck: 60 % of the time. Nothing stands out" in said
    assert "Reward 1.00 s 10 % no estimate" in said
    assert "from arithmetic: 6 operations a weight and token" in said
    assert "Seconds of each phase, step by step" in said
    assert "Steps 1 – 3 · half of them within 10.0 s" in html
    drawn = json.loads(re.search(r'id="plan-drawn"[^>]*>(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    assert [line["step"] for line in drawn["lines"]] == [1, 2, 3]
    assert drawn["labels"]["rollout"] == "Rollout"


def test_before_the_first_step_it_says_when_it_appears(vera_s: Client, run: Run) -> None:
    said = text(part(vera_s, run))
    assert said == "It appears here with the first step; loading and a warm-up have no plan."


def test_a_suggestion_tells_its_rule_and_source(vera_s: Client, run: Run) -> None:
    run.spec = {**run.spec, "kind": "train", "checkpoint": {"every_steps": 2}}
    run.save()
    planned(run, 3, ("update", 3.0), ("checkpoint", 1.0))
    said = text(part(vera_s, run))
    assert "raise checkpoint.every_steps (2 now)." in said
    assert "Rule: checkpoints above 10 %. Source: Young 1974" in said


def test_names_from_a_node_are_escaped(vera_s: Client, run: Run) -> None:
    evil = "<img src=x onerror=a()>"
    push(run, [spans(1, 1, (evil, 1.0)), spans(2, 1, ("update", 1.0), process="</script><b>")])
    html = part(vera_s, run)
    assert "<img" not in html and "<b>" not in html.replace("<b>&lt;", "").replace("<b>Update", "")
    assert html.count("</script>") == 1


def test_it_needs_a_login(client: Client, run: Run) -> None:
    assert client.get(reverse("run-plan", args=[run.pk])).status_code == 302
