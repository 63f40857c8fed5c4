"""The page of a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from orchestrator.models import Desired, LogLine, Process, Run, State, StreamHealth
from tests.orchestrator.conftest import attempt_add

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User

TABS = ("", "metrics/", "rollouts/", "steer/", "log/", "checkpoints/", "spec/", "events/", "truth/")


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_has_an_address_for_everybody_signed_in(
    vera: User, finished: Run, browser_of: Callable[[User], Client], tab: str
) -> None:
    page = browser_of(vera).get(f"/runs/{finished.pk}/{tab}")
    assert page.status_code == 200
    assert 'aria-current="page"' in page.content.decode()


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_of_a_run_that_has_nothing_yet(
    ada: User, run: Run, browser_of: Callable[[User], Client], tab: str
) -> None:
    assert browser_of(ada).get(f"/runs/{run.pk}/{tab}").status_code == 200


@pytest.mark.parametrize("tab", TABS)
def test_a_spec_that_no_longer_fits_is_still_shown(
    ada: User, run: Run, browser_of: Callable[[User], Client], tab: str
) -> None:
    Run.objects.update(spec={"objective": {"type": "forgotten"}, "data": 3, "rollout": []})
    assert browser_of(ada).get(f"/runs/{run.pk}/{tab}").status_code == 200


def test_the_charts_are_those_of_its_objective(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get(f"/runs/{finished.pk}/").content.decode()
    assert "[&quot;reward&quot;, &quot;eval/reward&quot;]" in page
    assert "Held-out reward" in page
    assert "data-stacked" in page


def test_no_script_and_no_handler_is_inline(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    for tab in TABS:
        page = browser_of(ada).get(f"/runs/{finished.pk}/{tab}").content.decode()
        for script in re.findall(r"<script([^>]*)>", page):
            assert "src=" in script or 'type="application/json"' in script
        assert not re.search(r"<[^>]*\son\w+=", page)
        assert not re.search(r"<[^>]*\sstyle=", page)


def test_answers_are_best_first_and_escaped(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get(f"/runs/{finished.pk}/rollouts/").content.decode()
    assert "<script>alert(1)" not in page
    assert page.index("123") < page.index("&lt;script&gt;alert(1)")
    assert page.count('data-sign="up" data-edge="4"') == 1
    assert page.count(">×2<") == 2


def test_the_nearest_step_with_answers_is_shown(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get(f"/runs/{finished.pk}/rollouts/?step=7").content.decode()
    assert 'value="40"' in page


def test_the_log_is_text(ada: User, finished: Run, browser_of: Callable[[User], Client]) -> None:
    LogLine.objects.create(run=finished, attempt=1, seq=1, time=1.0, text="<u>step</u> 1")
    assert "&lt;u&gt;step&lt;/u&gt; 1" in (
        browser_of(ada).get(f"/runs/{finished.pk}/log/").content.decode()
    )


def test_the_best_and_the_final_checkpoint_are_marked(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).get(f"/runs/{finished.pk}/checkpoints/").content.decode()
    rows = page.split("<tr")[2:]
    assert "final" in rows[0] and ">best<" not in rows[0]
    assert ">best<" in rows[1]


def test_the_spec_is_what_ran_and_says_what_was_chosen_at_start(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(ada)
    page = browser.get(f"/runs/{finished.pk}/spec/").content.decode()
    assert "its hash fits" in page
    assert "model.dtype" in page and "float32" in page
    assert page.index("[model]") < page.index("[objective]")
    Run.objects.update(spec_hash="0" * 64)
    assert "does not fit" in browser.get(f"/runs/{finished.pk}/spec/").content.decode()


def test_a_failed_run_says_what_to_do(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.update(
        process=Process.EXITED, cause="oom", state=State.FAILED, reason="CUDA out of memory"
    )
    LogLine.objects.create(run=finished, attempt=1, seq=1, time=1.0, text="torch.OutOfMemoryError")
    page = browser_of(ada).get(f"/runs/{finished.pk}/").content.decode()
    for words in ("Failed: out of memory", "CUDA out of memory", "tokens_per_microbatch",
                  "torch.OutOfMemoryError", "Retry"):  # fmt: skip
        assert words in page


def test_a_queued_run_says_why_it_waits(
    ada: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.update(
        state=State.QUEUED, process=Process.NONE, reason="Waits for a free slot on n1."
    )
    page = browser_of(ada).get(f"/runs/{run.pk}/").content.decode()
    assert ">Waits for a free slot on n1.</h3>" in page
    assert "Cancel" in page


@pytest.mark.parametrize(("verb", "wanted"), [("stop", Desired.STOP), ("pause", Desired.PAUSE)])
def test_its_owner_steers_it(
    ada: User, run: Run, browser_of: Callable[[User], Client], verb: str, wanted: str
) -> None:
    assert browser_of(ada).get(f"/runs/{run.pk}/do/{verb}/").status_code == 405
    assert browser_of(ada).post(f"/runs/{run.pk}/do/{verb}/")["Location"] == f"/runs/{run.pk}/"
    run.refresh_from_db()
    assert run.desired == wanted


def test_an_admin_steers_it_and_others_do_not(
    alma: User, bob: User, vera: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    for person in (bob, vera):
        browser = browser_of(person)
        assert browser.post(f"/runs/{run.pk}/do/stop/").status_code == 403
        assert "Stop and save" not in browser.get(f"/runs/{run.pk}/").content.decode()
    browser_of(alma).post(f"/runs/{run.pk}/do/stop/")
    run.refresh_from_db()
    assert run.desired == Desired.STOP


def test_a_wrong_moment_is_told(
    ada: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(ada).post(f"/runs/{finished.pk}/do/pause/", follow=True)
    assert 'data-level="error"' in page.content.decode()


@pytest.mark.parametrize("path", ["aaaaaaaaaaaa/", "nonsense/", "{id}/charts/", "{id}/do/fly/"])
def test_what_is_not_there_gives_a_page_that_helps(
    ada: User, run: Run, browser_of: Callable[[User], Client], path: str
) -> None:
    answer = browser_of(ada).get("/runs/" + path.format(id=run.pk))
    assert answer.status_code in (404, 405)
    if answer.status_code == 404:
        assert "All runs" in answer.content.decode()


@pytest.mark.parametrize("part", ["newest", "events-part", "truth-part"])
def test_its_parts_come_alone(
    ada: User, finished: Run, browser_of: Callable[[User], Client], part: str
) -> None:
    page = browser_of(ada).get(f"/runs/{finished.pk}/{part}/").content.decode()
    assert page.strip() and "<html" not in page


def test_the_truth_of_each_attempt_has_an_address(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    attempt_add(finished, 2)
    browser = browser_of(vera)
    first = browser.get(f"/runs/{finished.pk}/truth/?attempt=1").content.decode()
    assert '<a class="chip" href="?attempt=1" aria-current="true">1</a>' in first
    assert f"/runs/{finished.pk}/truth-part/?attempt=1" in first
    assert "Newest" not in first and "Received, lines" in first
    for path in ("truth/?attempt=9", "truth-part/?attempt=9"):
        assert browser.get(f"/runs/{finished.pk}/{path}").status_code == 404


def test_every_number_of_the_truth_says_how_it_is_measured(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(vera).get(f"/runs/{finished.pk}/truth-part/").content.decode()
    helps = re.findall(
        r'<dt tabindex="0">[^<]+<span class="tip" role="tooltip">([^<]*)</span>', page
    )
    assert len(helps) == page.count("<dt") == page.count("<dd") > 40
    assert all(len(words) > 20 for words in helps)


def test_a_settled_panel_need_not_be_asked_again(
    vera: User, finished: Run, browser_of: Callable[[User], Client]
) -> None:
    address = f"/runs/{finished.pk}/truth-part/"
    assert "data-settled" not in browser_of(vera).get(address).content.decode()
    Run.objects.filter(pk=finished.pk).update(complete=True)
    assert "data-settled" in browser_of(vera).get(address).content.decode()


def test_what_a_node_said_is_escaped(
    vera: User, run: Run, browser_of: Callable[[User], Client]
) -> None:
    StreamHealth.objects.create(
        run=run,
        attempt=1,
        source="trainer",
        refused_pushes=1,
        refused_why="<script>alert(1)</script>",
    )
    page = browser_of(vera).get(f"/runs/{run.pk}/truth/").content.decode()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
