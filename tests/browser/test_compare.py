"""A comparison from the form to the report, over a real training, real evaluation runs and a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.browser.served import Served
from tests.browser.test_demo import until
from tests.trainer.judges import JudgeServer, Said, completion, user_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SPEC = {
    "name": "sorter",
    "objective": {"type": "sft"},
    "data": {
        "train": [{"source": "noisy-sort", "options": {"noise": 0.0}}],
        "eval": [{"source": "noisy-sort", "split": "test", "limit": 24}],
    },
    "rewards": [],
    "optimizer": {"type": "adamw", "lr": 0.003},
    "batch": {"prompts_per_step": 64},
    "budget": {"max_steps": 60},
    "evaluation": {"every_steps": 0},
    "checkpoint": {"every_steps": 6, "keep_last": 40},
}
PAIRS = SPEC | {
    "name": "taste",
    "objective": {"type": "bradley-terry"},
    "data": {"train": [{"source": "noisy-sort"}]},
    "budget": {"max_steps": 30},
    "checkpoint": {"every_steps": 30},
}
"""A reward model that prefers digits in order."""
STATE = "document.querySelector('[data-comparison-state]').dataset.comparisonState"


class Rest:
    """The API, as a script of somebody's uses it."""

    def __init__(self, up: Served) -> None:
        env = os.environ | {
            "ANNEAL_DATA_DIR": str(up.folder / "var"),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        }
        env.pop("DATABASE_URL", None)
        command = [sys.executable, "manage.py", "api_token", "admin", "--scope", "admin"]
        made = subprocess.run(command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.url, self.token = up.url, made.stdout.strip()

    def __call__(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api{path}", data, headers)
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def rates(body: dict[str, Any]) -> Said:
    """The best rating for digits in order, else the worst."""
    text = user_text(body)
    said = re.search(r"<answer>\n(.*)\n</answer>", text, re.DOTALL)
    digits = re.search(r"\d+", text)
    assert said and digits, text
    return completion(f"[[{10 if said[1].strip() == ''.join(sorted(digits[0])) else 1}]]")


def settled(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(1)


def finished(rest: Rest, run: str) -> str:
    """The id of the run, once it has finished."""
    end = time.monotonic() + 180
    while (state := rest(f"/runs/{run}")["state"]) not in ("finished", "failed"):
        assert time.monotonic() < end, state
        time.sleep(0.5)
    assert state == "finished", rest(f"/runs/{run}")
    return run


@pytest.fixture(scope="module")
def up() -> Iterator[Served]:
    with Served("--slots", "2") as served:
        yield served


@pytest.fixture(scope="module")
def rest(up: Served) -> Rest:
    return Rest(up)


@pytest.fixture(scope="module")
def page(chromium: Browser, up: Served) -> Iterator[Page]:
    """A window whose scripts must not complain."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    window = context.new_page()
    found: list[str] = []
    window.on("console", lambda message: message.type == "error" and found.append(message.text))
    window.on("pageerror", lambda error: found.append(str(error)))
    window.goto(up.link)
    window.get_by_role("button", name="Sign in").click()
    window.wait_for_url("**/runs/")
    yield window
    context.close()
    assert found == []


@pytest.fixture(scope="module")
def scorer(rest: Rest) -> str:
    """A run that trains a reward model, beside the others."""
    run: str = rest("/runs", {"spec": PAIRS})["id"]
    return run


@pytest.fixture(scope="module")
def checkpoints(rest: Rest, scorer: str) -> list[str]:
    """The first and the last checkpoint of a training."""
    run = finished(rest, rest("/runs", {"spec": SPEC})["id"])
    kept = rest(f"/runs/{run}/checkpoints")["items"]
    assert len(kept) > 1, rest(f"/runs/{run}")
    return [f"checkpoint:{one['id']}" for one in (kept[-1], kept[0])]


def test_the_form_makes_a_comparison_that_becomes_ready_by_itself(
    page: Page, up: Served, checkpoints: list[str]
) -> None:
    page.goto(f"{up.url}/compare/new?with={','.join(checkpoints)}")
    assert page.locator("#source-0").input_value() == "noisy-sort", "as its run was evaluated"
    page.locator("#sampling-samples").fill("4")
    page.locator("#sampling-max_new_tokens").fill("8")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile(r"/compare/[a-z2-7]{12}/$"))
    until(page, f"{STATE} === 'ready'", 180)
    # The page loads itself again when everything is there.
    until(page, "document.querySelectorAll('.verdict').length === 1", 30)
    until(
        page,
        "document.querySelectorAll('[data-figure] .errorbars, [data-figure] .errorbar').length > 0",
    )
    verdict = page.locator(".verdict").inner_text()
    assert "step 60" in verdict and re.search(r"step 6\b", verdict) and "24 prompts" in verdict
    assert "One training seed" in verdict
    until(page, "document.querySelectorAll('[data-figure=passes] .scatterlayer path').length > 1")


def test_answers_stand_side_by_side(page: Page) -> None:
    page.get_by_role("link", name="Side by side").click()
    page.wait_for_selector(".side")
    # Its modules listen from then on.
    page.wait_for_load_state("load")
    assert page.locator("[data-side=a] [data-answer]").count() == 4
    numbers = "document.querySelector('[data-item]').dataset.item"
    assert page.evaluate(numbers) == "1"
    page.keyboard.press("j")
    until(page, f"{numbers} === '2'", 10)
    page.wait_for_load_state("load")
    page.keyboard.press("k")
    until(page, f"{numbers} === '1'", 10)
    marked = "document.querySelectorAll('[data-side=b] ins, [data-side=b] del').length"
    page.locator("a", has_text="largest disagreement").click()
    page.wait_for_url(re.compile("show=disagree"))
    page.wait_for_load_state("load")
    until(page, f"{marked} > 0", 10)
    texts = page.locator("[data-side=b] [data-text]")
    whole = texts.evaluate_all("all => all.map((one) => one.dataset.plain)")
    page.get_by_role("button", name="word diff").click()
    assert page.evaluate(marked) == 0
    assert texts.evaluate_all("all => all.map((one) => one.textContent)") == whole


def test_models_read_each_others_answers(page: Page) -> None:
    page.get_by_role("button", name="Let them read").click()
    page.wait_for_url(re.compile(r"/compare/[a-z2-7]{12}/$"))
    side = f"{page.url}side/"
    end = time.monotonic() + 120
    while page.locator(".reading .cell").count() == 0 or page.locator(".kl tbody tr").count() < 2:
        assert time.monotonic() < end
        page.wait_for_timeout(1000)
        page.goto(side)
    first = page.locator("[data-side=b] .reading").first
    assert "Read by sorter, step 6" in first.inner_text()
    text = page.locator("[data-side=b] [data-text]").first.get_attribute("data-plain")
    cells = first.locator(".cell").evaluate_all("all => all.map((one) => one.textContent)")
    assert "".join(cells).replace("·", " ").startswith(text or "nothing"), "a character a token"


def test_what_was_lost_becomes_an_evaluation_set(page: Page) -> None:
    page.get_by_role("link", name="Regressions").click()
    page.wait_for_url("**/regressions/")
    page.wait_for_load_state("load")
    # What the first checkpoint solves is little: ask the other way round.
    page.select_option("select[name=a]", index=1)
    until(page, "location.search.includes('a=')", 10)
    page.goto(page.url.split("?")[0] + "?" + "a=sorter, step 60&b=sorter, step 6")
    boxes = page.locator("input[name=item]")
    assert boxes.count() > 0
    boxes.first.check()
    assert page.locator("[data-chosen]").inner_text() == "1"
    page.get_by_role("button", name="Add to an evaluation set").click()
    page.wait_for_url("**/datasets/*/")
    assert "1 row" in page.locator(".page-head").inner_text()


def test_rest_makes_the_same_from_what_is_there(
    page: Page, rest: Rest, checkpoints: list[str]
) -> None:
    [first] = rest("/comparisons")["items"]
    runs = rest("/runs?kind=evaluate")["count"]
    order = {key: first[key] for key in ("prompts", "sampling", "seed")}
    order["scorers"] = [one["knobs"] for one in first["scorers"]]
    second = rest("/comparisons", {"checkpoints": checkpoints, **order})
    assert second["state"] == "ready", "nothing is made twice"
    assert rest("/runs?kind=evaluate")["count"] == runs
    one, other = (rest(f"/comparisons/{made['id']}/evidence") for made in (first, second))
    assert one["findings"][0]["verdict"] == other["findings"][0]["verdict"]


def test_a_judge_model_rates_each_answer_as_a_scorer(
    page: Page, rest: Rest, checkpoints: list[str]
) -> None:
    first = rest("/comparisons")["items"][-1]
    order = {key: first[key] for key in ("prompts", "sampling", "seed")}
    order["scorers"] = [one["knobs"] for one in first["scorers"]]
    with JudgeServer(rates) as server:
        order["scorers"].append({"type": "llm-judge", "url": server.url, "model": "rater"})
        made = rest("/comparisons", {"checkpoints": checkpoints, **order})["id"]
        settled(lambda: rest(f"/comparisons/{made}")["state"] == "ready")
        assert len(server.asked) == 24 * 4 * 2
    exact, rated = (
        rest(f"/comparisons/{made}/evidence?scorer={label}")
        for label in ("exact-match", "llm-judge")
    )
    means = [[arm["mean"] for arm in found["arms"]] for found in (exact, rated)]
    assert means[0] == pytest.approx(means[1]) and max(means[0]) > 0


def test_judges_swap_and_failures_are_told(page: Page, rest: Rest, up: Served) -> None:
    """One likes the first answer, which a swap takes out; one talks nonsense."""
    made = rest("/comparisons")["items"][0]["id"]
    path = f"/comparisons/{made}/judges"

    def wait(*states: str) -> list[dict[str, Any]]:
        settled(lambda: tuple(one["state"] for one in rest(path)["items"]) == states)
        return list(rest(path)["items"])

    with (
        JudgeServer(lambda body: completion("The first.\n[[A]]")) as liker,
        JudgeServer(lambda body: completion("Both are delightful.")) as babbler,
    ):
        judge = {"url": liker.url, "model": "first-liker"}
        rest(path, {**judge, "swap": False})
        rest(path, {"url": babbler.url, "model": "babbler"})
        once, nonsense = wait("ready", "failed")
        pairs = once["pairs"]["wanted"]
        assert len(liker.asked) == pairs > 50
        assert once["findings"][0]["verdict"]["word"] == "worse", "the baseline was shown first"
        rest(path, judge)
        both, _ = wait("ready", "failed")
        assert len(liker.asked) == 2 * pairs, "one order was there already"
    assert both["order"]["share"] == both["first"]["share"] == both["findings"][0]["tie"]["share"]
    assert both["order"]["share"] == 1
    assert both["findings"][0]["verdict"]["word"] not in ("better", "worse")
    assert nonsense["pairs"]["failed"] == nonsense["pairs"]["wanted"] == pairs
    assert list(nonsense["why"]) == ["the judge's last line is no verdict"]
    page.goto(f"{up.url}/compare/{made}/")
    shown = page.locator(".judges").inner_text()
    assert re.search(r"The order decided\s+100 %", shown)
    assert "got no verdict: missing, never a tie" in shown


def test_the_report_opens_without_a_server(rest: Rest, chromium: Browser, tmp_path: Path) -> None:
    made = rest("/comparisons")["items"][0]
    file = tmp_path / "report.html"
    file.write_bytes(rest(f"/comparisons/{made['id']}/report.html"))
    context = chromium.new_context()
    window = context.new_page()
    asked: list[str] = []
    found: list[str] = []
    window.on("request", lambda request: asked.append(request.url))
    window.on("console", lambda message: message.type == "error" and found.append(message.text))
    window.goto(file.as_uri())
    # Drawn by scripts whose hashes the page's own policy names.
    until(window, "document.querySelectorAll('[data-figure] svg').length > 1", 30)
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    context.close()
    assert outside == [] and found == []


def test_it_works_on_a_phone(page: Page, rest: Rest, up: Served) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    one = rest("/comparisons")["items"][0]["id"]
    for path in ("", "new", f"{one}/", f"{one}/side/", f"{one}/regressions/", f"{one}/report/"):
        page.goto(f"{up.url}/compare/{path}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_both_answer_in_a_playground_and_a_blend_of_one_alone_is_that_one(
    page: Page, up: Served, rest: Rest, checkpoints: list[str]
) -> None:
    made = rest("/playgrounds", {"models": checkpoints})
    path = f"/playgrounds/{made['id']}"
    asked = []
    for weight in (0, 1):
        question = {"prompt": "sort 97825 = ", "samples": 3, "max_new_tokens": 8}
        blend = {"voices": ["a", "b", "blend"], "blend": {"mode": "mix", "weight": weight}}
        asked.append(rest(f"{path}/questions", question | blend)["id"])
    end = time.monotonic() + 120
    while True:
        found = rest(f"{path}/questions")["questions"]
        if all(one["state"] == "answered" for one in found):
            break
        assert time.monotonic() < end, (rest(path), found)
        time.sleep(0.2)
    assert [one["id"] for one in found] == asked
    for one, same in zip(found, ("a", "b"), strict=True):
        said = {voice: [] for voice in ("a", "b", "blend")}
        for answer in one["answers"]:
            assert answer["text"] == "".join(token["text"] for token in answer["tokens"])
            said[answer["voice"]].append([token["id"] for token in answer["tokens"]])
        assert said["blend"] == said[same] and len(said["a"]) == 3
    assert found[0]["answers"][0]["tokens"] == found[1]["answers"][0]["tokens"], "the same draws"
    assert rest(path)["ready"]
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{up.url}/compare/play/{made['id']}/")
    page.locator("[data-asked] .answer-arm").nth(3).wait_for()
    page.locator("#prompt").fill("sort 31250 = ")
    page.locator("#prompt").press("Control+Enter")
    until(page, "document.querySelectorAll('.asked:first-child .given pre').length === 3", 10)
    page.locator("[data-weight='3']").click()
    until(page, "document.querySelectorAll('.asked:first-child .given').length === 4", 10)
    page.get_by_role("button", name="Tokens").click()
    until(page, "document.querySelectorAll('.asked:first-child .cell').length > 8", 10)
    rest(f"{path}/stop", {})
    while not (now := rest(path))["over"]:
        assert time.monotonic() < end, now
        time.sleep(0.2)
    assert now["state"] == "stopped"


def test_a_run_is_promoted_by_the_reward_model_that_was_trained_before(
    page: Page, up: Served, rest: Rest, checkpoints: list[str], scorer: str
) -> None:
    """Nobody touches it: the run ends, is compared with where it began, and what it made is approved."""
    by_taste = {"type": "reward-model", "model": f"run:{finished(rest, scorer)}"}
    rule = {"baseline": checkpoints[0], "scorers": [by_taste]}
    longer = SPEC | {"name": "longer", "model": {"name": checkpoints[0]}}
    run = finished(rest, rest("/runs", {"spec": longer, "promotion": rule})["id"])

    def newest() -> dict[str, Any]:
        found: dict[str, Any] = rest(f"/runs/{run}/checkpoints")["items"][0]
        return found

    settled(lambda: newest()["stage"] == "approved")
    comparison = rest(f"/runs/{run}")["promotion"]["begun"]["comparison"]
    page.goto(f"{up.url}/compare/{comparison}/")
    verdict = page.locator(".verdict").inner_text()
    assert "longer, step 60” is better than “sorter, step 6" in verdict
    assert page.locator("th", has_text="Mean reward-model").is_visible()
    page.goto(f"{up.url}/checkpoints/{newest()['id']}/")
    assert page.locator("#registry-stage").input_value() == "approved"
    assert "by promotion rule" in page.locator("#registry").inner_text()
