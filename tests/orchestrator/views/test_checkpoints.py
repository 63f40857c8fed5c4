"""Checkpoints of all runs, and one with its files."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.utils import timezone

from orchestrator.models import Checkpoint, Run

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
