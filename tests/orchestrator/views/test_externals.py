"""Registering a model, and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.models import External, Node, Run
from orchestrator.services.externals import external_register
from tests.orchestrator.model_folder import model_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_write(tmp_path / "base-1b")


def test_an_operator_registers_a_folder_and_sees_what_its_files_say(
    ada: User, folder: Path, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    assert "Register a model" in browser.get("/checkpoints/register/").content.decode()
    form = {"source": str(folder), "tags": "b, a", "note": "mine"}
    page = browser.post("/checkpoints/register/", form, follow=True).content.decode()
    external = External.objects.get()
    assert (external.tags, external.note) == (["a", "b"], "mine")
    assert f"name it external:{external.pk} in a spec" in page
    for words in ("LlamaForCausalLM", "Tokens of the tokenizer", "this server", "config.json"):
        assert words in page, words
    assert f"/new/?model=external:{external.pk}" in page
    form_page = browser.get(f"/new/?model=external:{external.pk}").content.decode()
    assert f'value="external:{external.pk}"' in form_page


@pytest.mark.parametrize(
    ("field", "form", "says"),
    [
        ("source", {"source": "/nothing/here"}, "/nothing/here is not there"),
        ("source", {"source": "a b"}, "is no absolute path and no hub id"),
        ("revision", {"source": "FOLDER", "revision": "main"}, "folders have none"),
        ("node", {"source": "FOLDER", "node": "n9"}, "there is no node"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    ada: User, folder: Path, browser_of: Callable[[User], Client], field, form, says
) -> None:
    form = {**form, "source": form["source"].replace("FOLDER", str(folder)), "note": "kept words"}
    answer = browser_of(ada).post("/checkpoints/register/", form)
    page = answer.content.decode()
    assert answer.status_code == 422 and says in page and "kept words" in page
    before, after = page.split('aria-invalid="true"')
    assert f'name="{field}"' in before[-300:] + after[:300]
    assert not External.objects.exists()


def test_viewers_register_nothing(vera: User, browser_of: Callable[[User], Client]) -> None:
    browser = browser_of(vera)
    assert browser.get("/checkpoints/register/").status_code == 403
    assert browser.post("/checkpoints/register/", {"source": "N/M"}).status_code == 403
    assert "Register a model" not in browser.get("/checkpoints/").content.decode()


def test_a_folder_that_has_gone_says_so_on_its_page(
    ada: User, folder: Path, browser_of: Callable[[User], Client]
) -> None:
    external = external_register(owner=ada, source=str(folder))
    browser = browser_of(ada)
    assert "Runs cannot start" not in browser.get(f"/externals/{external.pk}/").content.decode()
    (folder / "config.json").unlink()
    page = browser.get(f"/externals/{external.pk}/").content.decode()
    assert "holds no model" in page and "Runs cannot start" in page
    page = browser.post(f"/externals/{external.pk}/read/", follow=True).content.decode()
    assert "holds no model" in page


def test_it_is_renamed_staged_and_forgotten_by_its_owner(
    ada: User, vera: User, browser_of: Callable[[User], Client]
) -> None:
    external = external_register(owner=ada, source="NAME/MODEL", revision="abc")
    page, browser = f"/externals/{external.pk}/", browser_of(ada)
    shown = browser.get(page).content.decode()
    assert "A hub model is read by the node that loads it" in shown and "Look again" not in shown
    for verb in ("change", "read", "delete"):
        assert browser_of(vera).post(f"{page}{verb}/").status_code == 403
    browser.post(f"{page}change/", {"name": "Seven", "stage": "retired"})
    external.refresh_from_db()
    assert (external.name, external.stage) == ("Seven", "retired")
    answer = browser.post(f"{page}change/", {"name": " "})
    assert answer.status_code == 422 and "a model needs a name" in answer.content.decode()
    run = Run.objects.create(
        name="child", owner=ada, spec={"model": {"name": f"external:{external.pk}"}}
    )
    shown = browser.post(f"{page}delete/", follow=True).content.decode()
    assert "child needs it and has not ended" in shown
    Run.objects.filter(pk=run.pk).update(state="finished")
    assert browser.post(f"{page}delete/")["Location"] == "/checkpoints/"
    assert browser.get(page).status_code == 404


def test_a_folder_of_another_machine_cannot_be_looked_into(
    ada: User, node: Node, browser_of: Callable[[User], Client]
) -> None:
    external = external_register(owner=ada, source="/models/x", node=node.name)
    page = browser_of(ada).get(f"/externals/{external.pk}/").content.decode()
    assert "The folder lies on n1, into which this server cannot look" in page


def test_strange_names_are_harmless(ada: User, browser_of: Callable[[User], Client]) -> None:
    external = external_register(owner=ada, source="N/M", name="<img src=x>", note="<b>x</b>")
    for page in (f"/externals/{external.pk}/", "/checkpoints/", "/search/?q=img"):
        assert "<img src=x>" not in browser_of(ada).get(page).content.decode()
