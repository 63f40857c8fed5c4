"""The pages of playgrounds, and of runs that train nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import ArmRun, Run
from orchestrator.services.comparisons import comparison_create
from orchestrator.services.playgrounds import question_add
from tests.orchestrator.answered import EXACT, dataset_make, imported
from tests.orchestrator.playing import models_two, played, playground_ready
from tests.orchestrator.telemetry import push

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Node, User

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


def posted(*models: str, **more: str) -> dict[str, str]:
    return {f"model-{place}": name for place, name in enumerate(models)} | more


def test_a_playground_is_opened_from_two_named_models(
    ada: User, vera: User, browser_of: Any
) -> None:
    one, other = models_two(ada)
    browser = browser_of(ada)
    assert "No playground was opened yet" in browser.get("/compare/play/").text
    form = browser.get(f"/compare/play/?with={one},{other}").text
    assert [found.startswith("r · step") for found in re.findall("data-means>([^<]+)<", form)] == [
        *(True, True),
    ]
    answer = browser.post("/compare/play/", posted(one, other, "", idle_minutes="5"))
    run = Run.objects.get(kind="play")
    assert answer["Location"] == f"/compare/play/{run.pk}/"
    assert run.spec["play"] == {"models": [one, other], "idle_minutes": 5.0}
    (key,) = re.findall(r'name="_key" value="(\w+)"', form)
    made = [browser.post("/compare/play/", posted(one, other, _key=key)) for _ in range(2)]
    assert made[0]["Location"] == made[1]["Location"] != answer["Location"], "sent twice"
    Run.objects.filter(kind="play").exclude(pk=run.pk).delete()
    page = browser.get(answer["Location"]).text
    assert "Nothing was asked yet" in page and "data-may" in page and 'name="weight"' in page
    assert 'value="proxy"' not in page, "there is no base"
    assert run.name in browser.get("/compare/play/").text
    assert browser_of(vera).post("/compare/play/", posted(one, other)).status_code == 403
    seen = browser_of(vera).get(answer["Location"]).text
    assert "data-may" not in seen and "Operators ask" in seen


def test_faulty_fields_are_told_beside_them_and_nothing_is_lost(ada: User, browser_of: Any) -> None:
    one, _ = models_two(ada)
    answer = browser_of(ada).post(
        "/compare/play/", posted(one, "checkpoint:aaaaaaaaaaaa", idle_minutes="soon")
    )
    assert answer.status_code == 422 and f'value="{one}"' in answer.text
    assert "soon&#x27; is not a number" in answer.text
    answer = browser_of(ada).post("/compare/play/", posted(one, "checkpoint:aaaaaaaaaaaa"))
    assert answer.status_code == 422 and "there is no checkpoint:aaaaaaaaaaaa" in answer.text
    assert "names 1;" in browser_of(ada).post("/compare/play/", posted(one)).text
    assert not Run.objects.filter(kind="play").exists()


def test_what_models_say_is_no_markup(ada: User, bob: User, node: Node, browser_of: Any) -> None:
    run = playground_ready(ada, node, ["one", "two", "three"])
    question = question_add(run_id=run.pk, user=ada, body={"prompt": EVIL})
    evil = {"text": EVIL, "token_ids": [1], "pieces": [EVIL], "logps": [-1], "readings": {}}
    push(run, [played(1, question.pk, **evil)], source="samples")
    page = browser_of(ada).get(f"/compare/play/{run.pk}/").text
    assert EVIL not in page and "\\u003Cscript\\u003Ealert(1)" in page
    assert 'value="proxy"' in page
    assert "ada opened it" in browser_of(bob).get(f"/compare/play/{run.pk}/").text
    assert browser_of(ada).get(f"/compare/play/{'a' * 12}/").status_code == 404


def test_an_ended_one_says_so_and_opens_again_with_the_same_models(
    ada: User, node: Node, browser_of: Any
) -> None:
    run = playground_ready(ada, node, ["one", "two"])
    hidden = 'data-ended role="status" hidden'
    assert hidden in browser_of(ada).get(f"/compare/play/{run.pk}/").text
    Run.objects.filter(pk=run.pk).update(state="failed", reason="play.models.1: no folder two")
    page = browser_of(ada).get(f"/compare/play/{run.pk}/").text
    assert "no folder two" in page and "?with=one,two" in page
    assert hidden not in page, "it says so before a script runs"


def test_runs_that_train_nothing_have_no_empty_charts(
    ada: User, node: Node, browser_of: Any
) -> None:
    run = playground_ready(ada, node)
    page = browser_of(ada).get(f"/runs/{run.pk}/").text
    assert "Open the playground" in page and "data-tile" not in page and "data-chart" not in page
    assert f"/runs/{run.pk}/steer/" not in page and f"/runs/{run.pk}/log/" in page
    comparison = comparison_create(
        owner=ada,
        checkpoints=models_two(ada),
        prompts=[{"source": dataset_make(ada).pk}],
        scorers=[EXACT],
    )
    run = ArmRun.objects.filter(arm__comparison=comparison)[0].run
    latest = {"eval/accuracy": 0.25, f"eval/{'a' * 12}/accuracy": 0.25}
    Run.objects.filter(pk=run.pk).update(latest=latest)
    page = browser_of(ada).get(f"/runs/{run.pk}/").text
    assert f"/compare/{comparison.pk}/" in page and "data-tile" not in page
    assert page.count(">eval/") == 1 and "0.250" in page


def test_a_comparison_leads_to_a_playground_of_its_two_models(ada: User, browser_of: Any) -> None:
    one, other = models_two(ada)
    prompts = [{"source": dataset_make(ada).pk}]
    made = comparison_create(owner=ada, checkpoints=[one, other], prompts=prompts, scorers=[EXACT])
    page = browser_of(ada).get(f"/compare/{made.pk}/side/").text
    assert f"/compare/play/?with={one},{other}" in page
    rows = [
        {"question": f"{n}", "ground_truth": "1", "a": {"is_correct": True, "solution": "1"},
         "b": {"is_correct": n > 2, "solution": "2"}}
        for n in range(8)
    ]  # fmt: skip
    page = browser_of(ada).get(f"/compare/{imported(ada, rows, 'file').pk}/side/").text
    assert "/compare/play/?with=" not in page, "answers of a file have no model here"
