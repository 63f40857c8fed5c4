"""The new-run page over HTTP: where it starts from, what it answers, what it launches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from orchestrator.models import Dataset, Run
from tests.orchestrator.posted import fields_of
from trainer.recipebook import recipes
from trainer.spec import spec_parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import User
    from tests.orchestrator.posted import Fields

RECIPES = recipes()
NEEDY = "gsm8k_sft"


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was fetched on this machine."""
    monkeypatch.delenv("ANNEAL_GSM8K_DIR", raising=False)


@pytest.fixture
def browser(ada: User, browser_of: Callable[[User], Client]) -> Client:
    """An operator's browser."""
    return browser_of(ada)


def opened(browser: Client, query: str = "") -> Fields:
    """The fields of the page at this address."""
    answer = browser.get(f"/new/{query}")
    assert answer.status_code == 200
    return fields_of(answer.content.decode())


def spec_in(browser: Client, fields: Fields) -> dict[str, Any]:
    """The spec that these fields stand for, read from the page's own text."""
    page = browser.post("/new/form/", {**fields, "_format": "json"}).content.decode()
    return dict(json.loads(fields_of(page)["_text"][0]))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.name)
def test_a_recipe_opens_as_it_was_written(browser: Client, recipe: Any) -> None:
    page = browser.get(f"/new/?recipe={recipe.name}").content.decode()
    assert recipe.title in page
    assert spec_parse(spec_in(browser, fields_of(page))) == spec_parse(recipe.spec)


def test_the_page_offers_every_recipe(browser: Client) -> None:
    page = browser.get("/new/").content.decode()
    for recipe in RECIPES:
        assert f"?recipe={recipe.name}" in page


def test_scratch_can_be_launched_as_it_is(browser: Client) -> None:
    browser.post("/new/", opened(browser))
    assert Run.objects.get().state == "queued"


def test_a_run_is_cloned_with_its_tags_under_a_new_name(browser: Client, finished: Run) -> None:
    Run.objects.filter(pk=finished.pk).update(preemptible=True)
    fields = opened(browser, f"?clone={finished.pk}")
    assert fields["name"] == ["sort-grpo-2"] and fields["_tags"] == ["demo"]
    assert fields["_preemptible"] == ["yes"]
    cloned = spec_parse(spec_in(browser, fields)).model_dump(mode="json")
    assert {**cloned, "name": ""} == {**finished.spec, "name": ""}


def test_a_method_opens_with_a_spec_that_uses_it(browser: Client) -> None:
    assert spec_in(browser, opened(browser, "?type=dpo"))["objective"]["type"] == "dpo"
    rewards = spec_in(browser, opened(browser, "?type=rewards/length-window"))["rewards"]
    assert rewards[0]["type"] == "length-window"


def test_a_dataset_and_a_model_are_filled_in(browser: Client, ada: User, finished: Run) -> None:
    rows = Dataset.objects.create(
        name="sums", owner=ada, filename="sums.jsonl", sha256="0" * 64, bytes=1, rows=1,
        columns=["question"], mapping={"question": "prompt"},
    )  # fmt: skip
    checkpoint = finished.checkpoints.first()
    spec = spec_in(browser, opened(browser, f"?dataset={rows.pk}&model=checkpoint:{checkpoint.pk}"))
    assert spec["data"]["train"] == [{"source": rows.pk, "columns": {"question": "prompt"}}]
    assert spec["model"]["name"] == f"checkpoint:{checkpoint.pk}"


@pytest.mark.parametrize(
    "query",
    ["?recipe=nothing", "?recipe=../../etc/passwd", "?recipe=/etc/passwd", "?clone=aaaaaaaaaaaa",
     "?clone=%00", "?type=nothing", "?type=objectives/%00", "?dataset=zzz", "?dataset=%00",
     "?model=%00", "?model=checkpoint:x"],
)  # fmt: skip
def test_an_address_that_names_nothing_still_opens_the_form(browser: Client, query: str) -> None:
    answer = browser.get(f"/new/{query}")
    assert answer.status_code == 200
    assert 'id="nr-form"' in answer.content.decode()


def test_launch_makes_one_run_of_what_was_typed(browser: Client, ada: User) -> None:
    fields = opened(browser, "?recipe=noisy_sort_grpo")
    typed = {"optimizer.lr": "3e-4", "_tags": "a, b ,a", "_priority": "5", "_max_restarts": "0"}
    answer = browser.post("/new/", {**fields, **typed, "name": "mine"})
    run = Run.objects.get()
    assert answer.status_code == 302 and answer["Location"] == f"/runs/{run.pk}/"
    assert (run.name, run.owner, run.recipe) == ("mine", ada, "noisy_sort_grpo")
    assert (run.tags, run.priority, run.max_restarts) == (["a", "b"], 5, 0)
    assert run.spec["optimizer"]["lr"] == 3e-4
    expected = next(one for one in RECIPES if one.name == "noisy_sort_grpo").spec
    changed = {**expected, "name": "mine", "optimizer": {**expected["optimizer"], "lr": 3e-4}}
    assert spec_parse(run.spec) == spec_parse(changed)


def test_a_second_click_launches_nothing_more(browser: Client) -> None:
    fields = opened(browser)
    first, second = browser.post("/new/", fields), browser.post("/new/", fields)
    assert Run.objects.count() == 1
    assert first["Location"] == second["Location"]


def test_the_same_page_launches_a_changed_spec_and_another_page_the_same_one(
    browser: Client,
) -> None:
    fields = opened(browser)
    browser.post("/new/", fields)
    browser.post("/new/", {**fields, "seed": "1"})
    browser.post("/new/", {**opened(browser), "name": fields["name"]})
    assert Run.objects.count() == 3


def test_a_faulty_spec_is_shown_again_with_its_errors(browser: Client) -> None:
    wrong = {**opened(browser), "optimizer.lr": "fast", "_priority": "soon", "name": "kept"}
    answer = browser.post("/new/", wrong)
    page = answer.content.decode()
    assert answer.status_code == 422 and not Run.objects.exists()
    assert fields_of(page)["optimizer.lr"] == ["fast"]
    assert fields_of(page)["_priority"] == ["soon"]
    assert fields_of(page)["name"] == ["kept"]
    assert 'data-go="optimizer.lr"' in page and "valid number" in page


def test_what_only_the_launch_can_know_lands_on_its_field(browser: Client) -> None:
    answer = browser.post("/new/", {**opened(browser), "model.name": "run:aaaaaaaaaaaa"})
    assert answer.status_code == 422
    assert 'data-go="model.name"' in answer.content.decode()


def test_text_is_launched_as_it_is_written(browser: Client) -> None:
    text = 'name = "typed"\n[objective]\ntype = "sft"\n[budget]\nmax_steps = 3\n'
    browser.post("/new/", {**opened(browser), "_source": "text", "_text": text})
    run = Run.objects.get()
    assert (run.name, run.total_steps, run.spec["objective"]["type"]) == ("typed", 3, "sft")


def test_faulty_text_is_not_launched_and_not_lost(browser: Client) -> None:
    text = 'name = "typed"\n[objective\n'
    answer = browser.post("/new/", {**opened(browser), "_source": "text", "_text": text})
    page = answer.content.decode()
    assert answer.status_code == 422 and not Run.objects.exists()
    assert fields_of(page)["_text"] == [text]
    assert 'data-line="2"' in page


def test_a_viewer_sees_why_and_launches_nothing(
    vera: User, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(vera)
    page = browser.get("/new/").content.decode()
    assert "Your role is viewer" in page
    assert browser.post("/new/", fields_of(page)).status_code == 403
    assert not Run.objects.exists()


def test_nobody_launches_without_signing_in_or_from_another_site(ada: User, client: Client) -> None:
    assert client.post("/new/").status_code in (302, 403)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)
    assert strict.post("/new/", {"name": "x"}).status_code == 403
    assert not Run.objects.exists()


@pytest.mark.parametrize("path", ["/new/form/", "/new/review/"])
def test_looking_changes_nothing(browser: Client, path: str) -> None:
    assert browser.get(path).status_code == 405
    assert browser.post(path, opened(browser)).status_code == 200
    assert not Run.objects.exists()


def test_a_recipe_that_needs_a_download_says_what_and_is_not_launched(browser: Client) -> None:
    page = browser.get(f"/new/?recipe={NEEDY}").content.decode()
    assert "ANNEAL_GSM8K_DIR" in page and 'data-go="data.train.0.source"' in page
    assert browser.post("/new/", fields_of(page)).status_code == 422
    warm = {**opened(browser), "model.warm_start": "gsm8k-sft"}
    assert 'data-go="model.warm_start"' in browser.post("/new/", warm).content.decode()
    assert not Run.objects.exists()


def test_with_the_data_there_it_is_launched(
    browser: Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "1+1", "answer": "#### 2"}\n')
    (tmp_path / "test.jsonl").write_text('{"question": "1+2", "answer": "#### 3"}\n')
    (tmp_path / "example_model_solutions.jsonl").write_text("{}\n")
    monkeypatch.setenv("ANNEAL_GSM8K_DIR", str(tmp_path))
    assert browser.post("/new/", opened(browser, f"?recipe={NEEDY}")).status_code == 302


def test_no_variable_of_the_server_is_read_out(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "hunter2")
    for name in ("$SECRET_OF_THE_SERVER", "${ANNEAL_GSM8K_DIR}/${SECRET_OF_THE_SERVER}"):
        page = browser.post("/new/", {**opened(browser), "data.train.0.source": name})
        assert b"hunter2" not in page.content


def test_an_uploaded_datasets_name_and_a_runs_name_are_escaped(
    browser: Client, ada: User, finished: Run
) -> None:
    nasty = "<script>alert(1)</script>"
    Run.objects.update(name=nasty, tags=[nasty])
    Dataset.objects.create(
        name=nasty, owner=ada, filename="x", sha256="0" * 64, bytes=1, rows=1, columns=[nasty]
    )
    page = browser.get(f"/new/?clone={finished.pk}").content.decode()
    assert nasty not in page


def test_the_page_costs_few_queries(
    browser: Client, finished: Run, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    opened(browser)
    with django_assert_max_num_queries(16):
        opened(browser)
