"""The registry in a browser: a model is registered, a checkpoint pinned, a retention rule tried and applied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.browser.served import Served
from tests.orchestrator.model_folder import model_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SEED = """
import django, json
django.setup()
from orchestrator.models import Run, User
from tests.orchestrator.registered import checkpoint_write
run = Run.objects.create(name="trunk", owner=User.objects.get(), spec={"model": {"name": "starter"}},
                         state="finished", process="exited", cause="finished", attempt=1)
made = [checkpoint_write(run, step, metrics={"eval/loss": 1 / step}, final=step == 40)
        for step in (10, 20, 30, 40)]
print(json.dumps({"run": run.pk, "checkpoints": [one.pk for one in made]}))
"""


@pytest.fixture(scope="module")
def up() -> Iterator[Served]:
    with Served() as up:
        yield up


@pytest.fixture(scope="module")
def seeded(up: Served) -> dict:
    env = {**os.environ, "ANNEAL_DATA_DIR": str(up.folder / "var"), "PYTHONPATH": str(PROJECT_DIR)}
    env["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings"
    said = subprocess.run(
        [sys.executable, "-c", SEED], env=env, cwd=PROJECT_DIR, check=True, capture_output=True
    )
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def state(chromium: Browser, up: Served) -> str:
    """Cookies of a signed-in browser; the link works once."""
    page = chromium.new_page()
    page.goto(up.link)
    page.click("main button")
    page.wait_for_url("**/runs/")
    path = str(up.folder / "state.json")
    page.context.storage_state(path=path)
    page.context.close()
    return path


@pytest.fixture
def page(chromium: Browser, state: str) -> Iterator[Page]:
    context = chromium.new_context(storage_state=state)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_a_model_is_registered_and_a_mistake_is_mended(
    page: Page, up: Served, tmp_path: Path
) -> None:
    folder = model_write(tmp_path / "base-1b")
    page.goto(f"{up.url}/checkpoints/register/")
    page.fill("[name=source]", f"{folder}x")
    page.fill("[name=note]", "a small one")
    page.click("text=Register >> nth=-1")
    assert "is not there" in page.inner_text("#source-problem")
    assert page.input_value("[name=note]") == "a small one"
    page.fill("[name=source]", str(folder))
    page.click("button:has-text('Register')")
    page.wait_for_url("**/externals/*/")
    assert "LlamaForCausalLM" in page.inner_text("main")
    page.goto(f"{up.url}/checkpoints/?kind=external")
    assert page.inner_text(".external-table td.name a") == "base-1b"


def test_a_pinned_checkpoint_survives_the_rule_that_removes_the_others(
    page: Page, up: Served, seeded: dict
) -> None:
    first, second = seeded["checkpoints"][:2]
    page.goto(f"{up.url}/checkpoints/{first}/")
    page.check("[name=pinned]")
    page.select_option("[name=stage]", "candidate")
    page.click("#registry button:has-text('Save')")
    page.wait_for_selector(".chip.stage:has-text('candidate')")
    assert page.is_disabled("button:has-text('Delete')")

    page.goto(f"{up.url}/checkpoints/retention/?run={seeded['run']}&keep_last=1&keep_best=0")
    assert "2 of 4 checkpoints would go" in page.inner_text(".freed")
    assert page.locator("tr.goes").count() == 2
    page.click("button:has-text('Apply the rule')")
    page.click("dialog button:has-text('Keep them')")
    assert page.locator("tr.goes").count() == 2, "nothing happens before the answer"
    page.click("button:has-text('Apply the rule')")
    page.click("dialog button:has-text('Apply the rule')")
    page.wait_for_selector("text=2 checkpoints deleted")
    assert page.locator("tr.goes").count() == 0

    folder = Path(up.folder / "var" / "runs" / seeded["run"] / "checkpoints")
    page.goto(f"{up.url}/checkpoints/{second}/")
    for _ in range(100):
        if "were freed" in page.inner_text("main"):
            break
        page.wait_for_timeout(100)
        page.reload()
    assert sorted(path.name for path in folder.iterdir()) == ["step-10", "step-40"]
