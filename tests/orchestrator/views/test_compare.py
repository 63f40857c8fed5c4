"""The pages of comparisons: every state is told, nothing that a model wrote is markup, roles are kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Comparison, Dataset, Run
from orchestrator.services.comparisons import comparison_create
from tests.orchestrator.answered import (
    EXACT,
    answers_put,
    checkpoint_add,
    checkpoint_make,
    dataset_make,
    imported,
    runs_end,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def made(ada: User) -> Comparison:
    one = checkpoint_make(ada)
    names = [f"checkpoint:{one.pk}", f"checkpoint:{checkpoint_add(one.run, 20).pk}"]
    prompts = [{"source": dataset_make(ada).pk}]
    return comparison_create(owner=ada, checkpoints=names, prompts=prompts, scorers=[EXACT])


@pytest.fixture
def evil(ada: User) -> Comparison:
    """A file whose every text tries to be markup."""
    rows = [
        {
            "question": f"{EVIL} {number}",
            "ground_truth": EVIL,
            f"a {EVIL}": {"is_correct": True, "solution": EVIL},
            f"b {EVIL}": {"is_correct": number > 2, "solution": EVIL},
        }
        for number in range(8)
    ]
    return imported(ada, rows, EVIL)


def test_the_list_is_empty_and_says_what_to_do(vera: User, ada: User, browser_of: Any) -> None:
    assert "Nothing is compared yet" in browser_of(vera).get("/compare/").text
    assert "/compare/new" not in browser_of(vera).get("/compare/").text
    assert "/compare/new" in browser_of(ada).get("/compare/").text


def test_the_list_tells_states_and_finds(made: Comparison, vera: User, browser_of: Any) -> None:
    page = browser_of(vera).get("/compare/").text
    assert "waiting" in page and "r, step 20" in page
    assert made.name in browser_of(vera).get("/compare/?q=step+20").text
    assert "No comparison matches" in browser_of(vera).get("/compare/?q=nothing").text
    key = made.arms.first().checkpoint_id
    assert made.pk in browser_of(vera).get(f"/compare/?checkpoint={key}").text
    assert made.pk not in browser_of(vera).get("/compare/?checkpoint=aaaaaaaaaaaa").text


def test_every_tab_answers_while_nothing_is_there(
    made: Comparison, vera: User, browser_of: Any
) -> None:
    for tab in ("", "side/", "regressions/", "report/", "progress/"):
        answer = browser_of(vera).get(f"/compare/{made.pk}/{tab}")
        assert answer.status_code == 200, tab
    assert "Nothing to say yet" in browser_of(vera).get(f"/compare/{made.pk}/").text


def test_the_verdict_is_the_sentence_of_the_evidence(
    made: Comparison, vera: User, browser_of: Any
) -> None:
    first, second = made.arms.all()
    answers_put(first, lambda item, index: 0.0)
    answers_put(second, lambda item, index: 1.0)
    runs_end(made)
    page = browser_of(vera).get(f"/compare/{made.pk}/").text
    assert "“r, step 20” is better than “r, step 10”" in page
    assert "One training seed of each" in page
    assert "ready" in page
    assert 'data-figure="forest"' in page


def test_failed_items_are_counted_apart(made: Comparison, vera: User, browser_of: Any) -> None:
    first, second = made.arms.all()
    answers_put(first, lambda item, index: 1.0)
    answers_put(second, lambda item, index: None if item.number < 4 else 1.0)
    page = browser_of(vera).get(f"/compare/{made.pk}/").text
    assert "3 failed" in page and "the judge did not answer (3)" in page
    side = browser_of(vera).get(f"/compare/{made.pk}/side/?show=left-out").text
    assert "1 of 3" in side and ">failed<" in side


def test_nothing_that_a_model_wrote_is_markup(
    evil: Comparison, vera: User, browser_of: Any
) -> None:
    browser = browser_of(vera)
    tabs = ("", "side/", "side/?mode=list", "regressions/", "report/", "progress/")
    for url in ("/compare/", *(f"/compare/{evil.pk}/{tab}" for tab in tabs)):
        page = browser.get(url).text
        assert EVIL not in page, url
        assert "&lt;script&gt;" in page or "progress" in url, url
    report = browser.get(f"/api/comparisons/{evil.pk}/report.html").text
    assert EVIL not in report.replace("<script>alert(1)<\\/script>", "")


def test_filters_show_what_they_say(evil: Comparison, vera: User, browser_of: Any) -> None:
    browser = browser_of(vera)
    page = browser.get(f"/compare/{evil.pk}/side/?show=a-wins").text
    assert "1 of 3" in page
    assert "No prompt is here" in browser.get(f"/compare/{evil.pk}/side/?show=b-wins").text
    assert "1 of 1" in browser.get(f"/compare/{evil.pk}/side/?q=script>+5").text
    wrong = browser.get(f"/compare/{evil.pk}/side/?a=nobody&show=all").text
    assert "there is no arm" in wrong
    assert "3 prompts" in browser.get(f"/compare/{evil.pk}/regressions/").text


def test_a_prompt_has_an_address(evil: Comparison, vera: User, browser_of: Any) -> None:
    page = browser_of(vera).get(f"/compare/{evil.pk}/side/?n=5").text
    assert "Prompt 5" in page
    assert re.search(r'data-after href="\?[^"]*n=6"', page)
    assert re.search(r'data-before href="\?[^"]*n=4"', page)


def test_the_form_is_filled_from_checkpoints(ada: User, browser_of: Any) -> None:
    data = {"eval": [{"source": "arithmetic", "split": "test", "limit": 32}]}
    rewards = [{"type": "exact-match", "weight": 2.0}]
    one = checkpoint_make(ada, data=data, rewards=rewards)
    page = browser_of(ada).get(f"/compare/new?with=checkpoint:{one.pk},m/b").text
    assert f'value="checkpoint:{one.pk}"' in page and 'value="m/b"' in page
    assert 'value="arithmetic" selected' in page and 'value="32"' in page
    assert "<option selected>exact-match" in page


def test_the_form_makes_a_comparison_once(ada: User, browser_of: Any) -> None:
    dataset = dataset_make(ada)
    fields = {
        "_key": "k1", "model-0": "m/a", "model-1": "m/b", "source-0": dataset.pk, "type-0": "exact-match",
        "sampling-samples": "2", "sampling-temperature": "0.8", "seed": "4", "name": "mine",
    }  # fmt: skip
    browser = browser_of(ada)
    first = browser.post("/compare/new", fields)
    again = browser.post("/compare/new", fields)
    made = Comparison.objects.get()
    assert first.status_code == 302 and first["Location"] == again["Location"]
    assert (made.name, made.seed, made.sampling["samples"]) == ("mine", 4, 2)
    assert Run.objects.filter(kind="evaluate").count() == 2


def test_the_form_keeps_what_was_typed_and_says_what_is_wrong(ada: User, browser_of: Any) -> None:
    fields = {
        "model-0": "m/a", "model-1": "checkpoint:aaaaaaaaaaaa", "source-1": "arithmetic", "limit-1": "many",
        "type-0": "exact-match", "knobs-0": "{", "sampling-temperature": "hot", "name": "mine",
    }  # fmt: skip
    answer = browser_of(ada).post("/compare/new", fields)
    assert answer.status_code == 422 and not Comparison.objects.exists()
    for words in ("&#x27;hot&#x27; is not a number", "knobs: not JSON", "is not a whole number"):
        assert words in answer.text
    assert 'value="mine"' in answer.text and 'value="checkpoint:aaaaaaaaaaaa"' in answer.text
    fields |= {"limit-1": "5", "knobs-0": "", "sampling-temperature": "1"}
    assert (
        "there is no checkpoint:aaaaaaaaaaaa" in browser_of(ada).post("/compare/new", fields).text
    )


def test_viewers_make_nothing(vera: User, evil: Comparison, browser_of: Any) -> None:
    browser = browser_of(vera)
    assert browser.post("/compare/new", {}).status_code == 403
    assert browser.post("/compare/import/", {}).status_code == 403
    assert browser.post(f"/compare/{evil.pk}/keep/", {"item": "1"}).status_code == 403
    assert browser.post(f"/compare/{evil.pk}/do/delete/").status_code == 403


def test_stop_resume_delete(made: Comparison, ada: User, browser_of: Any) -> None:
    browser = browser_of(ada)
    assert "stopped" in browser.post(f"/compare/{made.pk}/do/stop/", follow=True).text
    page = browser.post(f"/compare/{made.pk}/do/stop/", follow=True).text
    assert "nothing to stop" in page
    browser.post(f"/compare/{made.pk}/do/resume/")
    assert Run.objects.filter(state="queued").count() == 2
    assert browser.post(f"/compare/{made.pk}/do/dance/").status_code == 404
    browser.post(f"/compare/{made.pk}/do/delete/")
    assert not Comparison.objects.exists()


def test_chosen_regressions_become_an_evaluation_set(
    evil: Comparison, ada: User, browser_of: Any
) -> None:
    browser = browser_of(ada)
    browser.post(f"/compare/{evil.pk}/keep/", {"item": ["1", "2"], "name": "lost"})
    made = Dataset.objects.get()
    assert (made.name, made.rows) == ("lost", 2)
    page = browser.post(f"/compare/{evil.pk}/keep/", {"name": "lost"}, follow=True).text
    assert "choose at least one prompt" in page
    more = {"only": "3", "item": ["4", "5"], "dataset": made.pk}
    browser.post(f"/compare/{evil.pk}/keep/", more)
    assert Dataset.objects.exclude(pk=made.pk).get().rows == 3
    regressions = browser.get(f"/compare/{evil.pk}/regressions/").text
    assert regressions.count('name="only"') == regressions.count('name="item"') > 0


def test_an_unreadable_file_is_told(ada: User, browser_of: Any) -> None:
    assert "Choose a file first" in browser_of(ada).post("/compare/import/", follow=True).text


def test_more_models_than_fit_are_told(ada: User, browser_of: Any) -> None:
    names = ",".join(f"m/{number}" for number in range(8))
    page = browser_of(ada).get(f"/compare/new?with={names}").text
    assert "8 are selected; the first 6 stand here" in page
    assert 'value="m/5"' in page and 'value="m/6"' not in page


def test_the_form_gives_a_promotion_rule(ada: User, browser_of: Any) -> None:
    one = checkpoint_make(ada)
    two = checkpoint_add(one.run, 20)
    form = {
        "model-0": f"checkpoint:{one.pk}", "model-1": f"checkpoint:{two.pk}", "source-0": dataset_make(ada).pk,
        "type-0": "exact-match", "promotion-not_worse_on": "exact-match", "promotion-margin": "much",
    }  # fmt: skip
    page = browser_of(ada).post("/compare/new", form)
    assert (
        page.status_code == 422
        and "names the scorer" in page.text
        and "is not a number" in page.text
    )
    assert 'value="much"' in page.text and not Comparison.objects.exists()
    page = browser_of(ada).post(
        "/compare/new", form | {"promotion-better_on": "bleu", "promotion-margin": ""}
    )
    assert page.status_code == 422 and "there is no scorer &#x27;bleu&#x27;" in page.text
    fine = {"promotion-better_on": "exact-match", "promotion-margin": "0.05"}
    browser_of(ada).post("/compare/new", form | fine)
    rule = {"better_on": "exact-match", "not_worse_on": "exact-match", "margin": 0.05}
    assert Comparison.objects.get().promotion == rule


def test_the_form_says_what_its_models_are_called(ada: User, browser_of: Any) -> None:
    saved = checkpoint_make(ada)
    page = browser_of(ada).get(f"/compare/new?with=checkpoint:{saved.pk}").text
    means = re.findall(r"data-means>([^<]*)<", page)
    assert means[0].startswith(f"{saved.run.name} · step {saved.step}") and set(means[1:]) == {""}


def test_the_report_page_says_how_answers_were_drawn(
    made: Comparison, ada: User, browser_of: Any
) -> None:
    Comparison.objects.update(sampling={"samples": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 0})
    page = browser_of(ada).get(f"/compare/{made.pk}/report/").text
    assert "<dd>4 samples a prompt, temperature 0.7, top_p 0.9</dd>" in page


def test_a_task_of_the_harness_is_a_choice_of_its_own(ada: User, browser_of: Any) -> None:
    one = checkpoint_make(ada)
    names = {
        "model-0": f"checkpoint:{one.pk}",
        "model-1": f"checkpoint:{checkpoint_add(one.run, 20).pk}",
    }
    page = browser_of(ada).get("/compare/new").text
    assert '<option value="harness:sort_digits_choice"' in page and '"harness"' not in page
    order = {"source-0": "harness:sort_digits_choice", "split-0": "test", "limit-0": "5"}
    scorer = {"type-0": "harness-task", "knobs-0": '{"metric": "acc"}'}
    answer = browser_of(ada).post("/compare/new", names | order | scorer)
    assert answer.status_code == 302, answer.text
    made = Comparison.objects.get()
    assert made.prompts[0]["options"] == {"task": "sort_digits_choice"} and made.items.count() == 5
