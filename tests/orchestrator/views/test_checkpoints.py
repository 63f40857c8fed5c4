"""Checkpoints of all runs, and one with its files."""

from __future__ import annotations

import hashlib
import html
import json
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from orchestrator.models import Checkpoint, External, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User


def steps_shown(page: str) -> list[str]:
    import re

    return re.findall(r'data-label="step"><a href="[^"]+">(\d+)</a>', page)


@pytest.fixture
def saved(finished: Run) -> Checkpoint:
    """The final checkpoint, with files on this server's disk."""
    found = Checkpoint.objects.get(run=finished, step=40)
    folder = settings.ANNEAL_DATA_DIR / "runs" / finished.pk / found.path
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    manifest = json.dumps({"files": {"config.json": "a" * 64, "lost.bin": "b" * 64}})
    (folder / "manifest.json").write_text(manifest)
    # A folder of the same step with another manifest would be another checkpoint.
    found.sha256 = hashlib.sha256(manifest.encode()).hexdigest()
    found.save()
    return found


def test_it_lists_newest_first_with_marks_and_figures(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(vera).get("/checkpoints/").content.decode()
    assert steps_shown(page) == ["40", "20"]
    newest, older = page.partition("<tbody>")[2].split("</tr>")[:2]
    assert ">final<" in newest and ">best<" not in newest
    assert ">best<" in older and "0.700" in older and "Best eval/reward" in older
    assert ">eval/loss<" not in page


def test_filters_find_runs_and_compare_metrics(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    nan = Checkpoint.objects.create(
        run=finished, attempt=1, step=30, path="x", sha256="0" * 64, metrics={"eval/reward": "NaN"}
    )
    for q, steps in (
        ("sort", {"20", "30", "40"}),
        ("demo", {"20", "30", "40"}),
        ("nothing", set()),
        (nan.pk, {"30"}),
        ("eval/reward > 0.65", {"20"}),
        ("eval/reward<0.65", {"40"}),
        ("sort eval/reward>=0.6", {"20", "40"}),
        ("eval/loss", set()),
        ("eval/x__y > 1", set()),
        ("a\x00 ' \" %", set()),
    ):
        page = browser_of(vera).get("/checkpoints/", {"q": q}).content.decode()
        assert set(steps_shown(page)) == steps, q


def test_removed_ones_are_hidden_until_asked_for(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    Checkpoint.objects.filter(step=20).update(deleted=timezone.now())
    browser = browser_of(vera)
    assert steps_shown(browser.get("/checkpoints/").content.decode()) == ["40"]
    page = browser.get("/checkpoints/?removed=1").content.decode()
    assert steps_shown(page) == ["40", "20"] and ">removed<" in page


def test_training_starts_from_it(
    ada: User, vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    pk = Checkpoint.objects.get(step=40).pk
    link = f"/new/?clone={finished.pk}&amp;model=checkpoint:{pk}"
    assert link in browser_of(ada).get("/checkpoints/").content.decode()
    assert link not in browser_of(vera).get("/checkpoints/").content.decode()
    form = browser_of(ada).get(link.replace("&amp;", "&")).content.decode()
    assert f'value="checkpoint:{pk}"' in form


def test_one_shows_its_files_and_how_to_load_it(
    vera: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(vera).get(f"/checkpoints/{saved.pk}/").content.decode()
    assert f'href="/api/checkpoints/{saved.pk}/files/config.json"' in page
    assert "/files/lost.bin" not in page and ">missing<" in page
    assert "AutoModelForCausalLM.from_pretrained" in page
    assert f"http://testserver/api/checkpoints/{saved.pk}/files" in page
    assert f'[model] name = "checkpoint:{saved.pk}"' in html.unescape(page) and "Compare it" in page


def test_a_reward_model_says_how_it_scores(
    vera: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.filter(pk=saved.run_id).update(
        spec={**saved.run.spec, "objective": {"type": "rating-regression"}}
    )
    page = html.unescape(browser_of(vera).get(f"/checkpoints/{saved.pk}/").content.decode())
    assert "AutoModelForSequenceClassification.from_pretrained" in page
    assert f'type = "reward-model", model = "checkpoint:{saved.pk}"' in page
    assert "Compare it" not in page and "[model]" not in page


def test_a_removed_one_says_so_and_offers_no_file(
    ada: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    Checkpoint.objects.update(deleted=timezone.now())
    page = browser_of(ada).get(f"/checkpoints/{saved.pk}/").content.decode()
    assert "were removed" in page and "keep policy" in page
    assert "from_pretrained" not in page and "Train from this" not in page


def test_an_empty_list_says_when_checkpoints_come(
    vera: User, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(vera).get("/checkpoints/").content.decode()
    assert "No checkpoint is kept yet" in page and 'href="/new/"' in page


def test_nonsense_and_strange_names_are_harmless(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.update(name="<img src=x>")
    browser = browser_of(vera)
    for query in ("page=x", "page=99999999999", "q=%00", "q=<script>x", "removed=2"):
        page = browser.get(f"/checkpoints/?{query}")
        assert page.status_code == 200
        assert "<img src=x>" not in page.content.decode()
        assert "<script>x" not in page.content.decode()
    assert browser.get("/checkpoints/aaaaaaaaaaaa/").status_code == 404


def test_the_list_costs_few_queries_however_long(
    vera: User,
    finished: Run,
    browser_of: Callable[[User], Client],
    django_assert_max_num_queries: Callable[[int], object],
) -> None:
    for number in range(20):
        run = Run.objects.create(name=f"r{number}", owner=finished.owner, spec=finished.spec)
        Checkpoint.objects.create(run=run, attempt=1, step=1, path="x", sha256="0" * 64)
    browser = browser_of(vera)
    browser.get("/checkpoints/")
    with django_assert_max_num_queries(8):  # type: ignore[attr-defined]
        browser.get("/checkpoints/")


# --- the registry -------------------------------------------------------------------------------


WITH_COMPARE = override_settings(ROOT_URLCONF="tests.orchestrator.test_compare_link")


@pytest.fixture
def external(ada: User) -> External:
    return External.objects.create(
        name="base-1b", kind="hub", source="NAME/BASE-1B", owner=ada, tags=["base"]
    )


def test_chips_filter_by_stage_tag_pin_run_and_kind(
    vera: User, finished: Run, external: External, browser_of: Callable[[User], Client]
) -> None:
    Checkpoint.objects.filter(step=40).update(stage="approved", tags=["good"], pinned=True)
    External.objects.update(stage="candidate")
    browser = browser_of(vera)
    for query, steps, shows_external in (
        ("", {"20", "40"}, True),
        ("stage=approved", {"40"}, False),
        ("stage=candidate", set(), True),
        ("stage=nonsense", {"20", "40"}, True),
        ("tag=good", {"40"}, False),
        ("tag=base", set(), True),
        ("pinned=1", {"40"}, False),
        (f"run={finished.pk}", {"20", "40"}, False),
        ("kind=run", {"20", "40"}, False),
        ("kind=external", set(), True),
        ("q=BASE-1B", set(), True),
    ):
        page = browser.get(f"/checkpoints/?{query}").content.decode()
        assert set(steps_shown(page)) == steps, query
        assert (f"/externals/{external.pk}/" in page) == shows_external, query
    page = browser.get("/checkpoints/").content.decode()
    assert 'approved <span class="count">1</span>' in page and ">pinned<" in page
    assert "run sort-grpo" in browser.get(f"/checkpoints/?run={finished.pk}").content.decode()


def test_selected_ones_go_to_the_comparison_where_there_is_one(
    vera: User, finished: Run, external: External, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(vera)
    pk = Checkpoint.objects.get(step=40).pk
    query = {"with": [f"checkpoint:{pk}", f"external:{external.pk}", "run:x", "<script>"]}
    with WITH_COMPARE:
        page = browser.get("/checkpoints/").content.decode()
        assert f'value="checkpoint:{pk}"' in page and "Compare selected" in page
        answer = browser.get("/checkpoints/compare/", query)
        assert answer["Location"].endswith(f"?with=checkpoint:{pk},external:{external.pk}")
        both = [f"checkpoint:{one.pk}" for one in Checkpoint.objects.order_by("-created")]
        answer = browser.get("/checkpoints/compare/", {"with": both})
        assert answer["Location"].endswith(f"?with={','.join(reversed(both))}"), "the newest first"
        assert "Compare</a>" in browser.get(f"/externals/{external.pk}/").content.decode()


def test_its_owner_stages_it_on_its_page_and_others_only_look(
    ada: User, vera: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    page = f"/checkpoints/{saved.pk}/"
    form = {"stage": "approved", "pinned": "yes", "tags": "b, a,", "note": "good\nenough"}
    assert browser_of(vera).post(f"{page}change/", form).status_code == 403
    assert 'name="stage"' not in browser_of(vera).get(page).content.decode()
    browser = browser_of(ada)
    assert browser.post(f"{page}change/", form)["Location"] == page
    saved.refresh_from_db()
    assert (saved.stage, saved.pinned, saved.tags) == ("approved", True, ["a", "b"])
    shown = browser.get(page).content.decode()
    assert '<option value="approved" selected>' in shown and 'value="a, b"' in shown
    assert "by ada" in shown and "Stage <b>none</b> → <b>approved</b>" in shown
    assert "It is pinned." in shown and "disabled" in shown
    looked = browser_of(vera).get(page).content.decode()
    assert "good<br>enough" in looked
    answer = browser.post(f"{page}change/", {**form, "stage": "best"})
    assert (
        answer.status_code == 422 and "stage: &#x27;best&#x27; is none" in answer.content.decode()
    )


def test_it_is_deleted_on_its_page_after_a_question(
    ada: User, vera: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    page, browser = f"/checkpoints/{saved.pk}/", browser_of(ada)
    assert "data-confirm" in browser.get(page).content.decode()
    assert browser_of(vera).post(f"{page}delete/").status_code == 403
    browser.post(f"{page}change/", {"pinned": "yes"})
    shown = browser.post(f"{page}delete/", follow=True).content.decode()
    assert "It is pinned. Unpin it" in shown
    browser.post(f"{page}change/", {})
    shown = browser.post(f"{page}delete/", follow=True).content.decode()
    assert "Deleted by ada" in shown and "still to go from 2 places" in shown
    assert "The keep policy of its run" not in shown and "Download all" not in shown


def test_its_page_shows_where_it_came_from_and_offers_all_files(
    vera: User, saved: Checkpoint, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.create(
        name="child", owner=saved.run.owner, spec={"model": {"name": f"checkpoint:{saved.pk}"}}
    )
    page = browser_of(vera).get(f"/checkpoints/{saved.pk}/").content.decode()
    assert "start model</span>" in page and "starter" in page
    assert ">child</a>" in page and "trained on" in page
    assert "/tar" not in page, "a file is missing"
    (settings.ANNEAL_DATA_DIR / "runs" / saved.run_id / saved.path / "lost.bin").write_text("x")
    page = browser_of(vera).get(f"/checkpoints/{saved.pk}/").content.decode()
    assert f'href="/api/checkpoints/{saved.pk}/tar"' in page
