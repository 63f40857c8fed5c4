"""The tab that steers a run, and what becomes of it afterwards: archive, delete, fork."""

from __future__ import annotations

import pytest

from orchestrator.models import Event, Process, Run
from orchestrator.services.removals import removals_work
from orchestrator.services.runs import run_patch

GRPO = {
    "objective": {"type": "grpo"},
    "rewards": [{"type": "exact-match"}],
    "data": {
        "train": [{"source": "noisy-sort"}],
        "eval": [{"source": "noisy-sort", "split": "test", "limit": 8}],
    },
}


@pytest.fixture
def trains(run):
    """A GRPO run at work."""
    Run.objects.filter(pk=run.pk).update(spec=GRPO)
    run.refresh_from_db()
    return run


@pytest.fixture
def page(ada, browser_of):
    return browser_of(ada)


def test_it_shows_each_live_knob_with_its_value_and_a_way_to_change_it(page, trains):
    text = page.get(f"/runs/{trains.pk}/steer/").content.decode()
    assert '<span class="chip">exact-match</span>' in text, "which reward is number 0"
    for path in ("optimizer.lr", "objective.beta", "rollout.temperature", "rewards.0.weight"):
        assert f'name="{path}"' in text
    assert "Save now" in text and "Evaluate now" in text
    assert "Back to" not in text


def test_a_new_value_is_stored_and_one_click_takes_it_back(page, trains):
    url = f"/runs/{trains.pk}/steer/knobs/"
    answer = page.post(url, {"optimizer.lr": "2e-5", "objective.beta": ""}, follow=True)
    assert "It counts from the next step on." in answer.content.decode()
    trains.refresh_from_db()
    assert trains.knobs == {"optimizer.lr": 2e-5}
    assert "Back to 0.0001" in answer.content.decode() and "2e-05 asked" in answer.content.decode()
    page.post(url, {"back": "optimizer.lr", "optimizer.lr": "7"})
    trains.refresh_from_db()
    assert trains.knobs == {}


def test_a_bad_value_keeps_what_was_typed_and_names_its_field(page, trains):
    url = f"/runs/{trains.pk}/steer/knobs/"
    answer = page.post(url, {"optimizer.lr": "-3", "objective.beta": "0.2"})
    text = answer.content.decode()
    assert answer.status_code == 422
    assert "optimizer.lr: Input should be greater than 0" in text
    assert 'value="-3"' in text and 'value="0.2"' in text
    trains.refresh_from_db()
    assert trains.knobs == {}
    answer = page.post(url, {"rollout.temperature": "<b>hot</b>"})
    assert "rollout.temperature: Input should be a valid number" in answer.content.decode()
    assert "<b>hot" not in answer.content.decode()


def test_nothing_typed_changes_nothing(page, trains):
    answer = page.post(f"/runs/{trains.pk}/steer/knobs/", {"optimizer.lr": "1e-4"}, follow=True)
    assert "Nothing was changed" in answer.content.decode()
    assert not Event.objects.filter(type="knobs").exists()


def test_the_policy_is_edited_with_its_rules_as_lines(page, trains):
    url = f"/runs/{trains.pk}/steer/policy/"
    typed = {
        "max_restarts": "5",
        "on_oom": "smaller-microbatch",
        "on_nan": "rollback",
        "nan_lr_factor": "0.1",
        "log_rules": "exclude-node: NCCL error: \\d+\n\nno-retry: licence",
    }
    text = page.post(url, typed, follow=True).content.decode()
    assert "The policy is changed." in text and "exclude-node: NCCL error: \\d+" in text
    trains.refresh_from_db()
    assert trains.max_restarts == 5
    assert trains.policy == {
        "on_oom": "smaller-microbatch",
        "on_nan": "rollback",
        "nan_lr_factor": 0.1,
        "log_rules": [
            {"pattern": "NCCL error: \\d+", "action": "exclude-node"},
            {"pattern": "licence", "action": "no-retry"},
        ],
    }
    for change, words in (
        ({"log_rules": "explode: x"}, "line 1 must be an action"),
        ({"log_rules": "retry: ("}, "log_rules.0.pattern: invalid regular expression"),
        ({"nan_lr_factor": "2"}, "policy.nan_lr_factor: Input should be less than or equal to 1"),
        ({"max_restarts": "-1"}, "max_restarts: must be a whole number from 0 to 100"),
    ):
        answer = page.post(url, {**typed, **change})
        assert answer.status_code == 422 and words in answer.content.decode(), words
    trains.refresh_from_db()
    assert trains.max_restarts == 5


def test_others_look_and_do_not_steer(vera, bob, trains, browser_of):
    text = browser_of(vera).get(f"/runs/{trains.pk}/steer/").content.decode()
    assert "Apply from the next step" not in text and "Save now" not in text
    for url in ("knobs", "policy"):
        answer = browser_of(bob).post(f"/runs/{trains.pk}/steer/{url}/", {"optimizer.lr": "1"})
        assert answer.status_code == 403


def test_save_now_and_evaluate_now_are_asked_by_buttons(page, trains):
    for verb in ("save", "evaluate"):
        page.post(f"/runs/{trains.pk}/do/{verb}/")
    trains.refresh_from_db()
    assert trains.asks == {"save": 1, "evaluate": 1}


def test_a_run_that_is_asked_to_stop_tells_who_and_the_deadlines(page, trains):
    page.post(f"/runs/{trains.pk}/do/stop/")
    text = page.get(f"/runs/{trains.pk}/").content.decode()
    assert "Stopped by ada." in text
    assert "SIGTERM" in text and "SIGKILL for its whole process group" in text


def ended(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(process=Process.EXITED, cause="finished", state="finished")


def test_an_archived_run_leaves_the_list_and_is_found_behind_its_chip(page, trains):
    ended(trains)
    page.post(f"/runs/{trains.pk}/do/archive/")
    assert f'data-run="{trains.pk}"' not in page.get("/runs/").content.decode()
    text = page.get("/runs/?archived=only").content.decode()
    assert f'data-run="{trains.pk}"' in text
    page.post(f"/runs/{trains.pk}/do/unarchive/")
    assert f'data-run="{trains.pk}"' in page.get("/runs/").content.decode()


def test_deleting_answers_at_once_says_how_far_it_is_and_refuses_a_run_that_lives(page, trains):
    answer = page.post(f"/runs/{trains.pk}/do/delete/", follow=True)
    assert "Stop it first" in answer.content.decode() and Run.objects.exists()
    ended(trains)
    answer = page.post(f"/runs/{trains.pk}/do/delete/", follow=True)
    assert answer.redirect_chain[-1][0] == "/runs/"
    assert "<b>tiny</b> being deleted" in answer.content.decode() and Run.objects.exists()
    leaving = page.get(f"/runs/{trains.pk}/").content.decode()
    assert "Being deleted, as ada asked" in leaving and "/do/retry/" not in leaving
    assert page.post(f"/runs/{trains.pk}/do/delete/").status_code == 302, "a second click"
    removals_work()
    assert not Run.objects.exists()
    told = page.get("/runs/removals/").content.decode()
    assert "<b>tiny</b> deleted; " in told and "on this disk are free" in told
    assert page.post(f"/runs/{trains.pk}/do/delete/").url == "/runs/", "a click in another tab"
    assert page.post("/runs/aaaaaaaaaaaa/do/delete/").status_code == 404


def test_a_fork_is_opened_in_the_form_and_knows_its_parent(page, finished, ada):
    checkpoint = finished.checkpoints.get(step=20)
    assert (
        f"?fork={checkpoint.pk}" in page.get(f"/runs/{finished.pk}/checkpoints/").content.decode()
    )
    run_patch(run_id=finished.pk, user=ada, changes={"policy": {"on_nan": "rollback"}})
    text = page.get(f"/new/?fork={checkpoint.pk}").content.decode()
    assert f"checkpoint:{checkpoint.pk}" in text and "sort-grpo-from-20" in text
    assert f'name="_fork" value="{checkpoint.pk}"' in text
    assert '<option value="rollback" selected>' in text
    gone = page.get("/new/?fork=aaaaaaaaaaaa").content.decode()
    assert "there is no checkpoint aaaaaaaaaaaa" in gone


SFT = {
    "kind": "train",
    "objective": {"type": "sft"},
    "model": {"name": "starter"},
    "data": {"train": [{"source": "noisy-sort"}], "eval": []},
    "rewards": [],
}
RULE = {"baseline": "start", "better_on": "", "not_worse_on": "", "margin": ""}


def rule_of(run):
    run.refresh_from_db()
    return {key: run.promotion.get(key) for key in ("better_on", "scorers", "prompts")}


def test_a_run_without_rewards_or_held_out_rows_is_given_a_rule(page, trains):
    Run.objects.filter(pk=trains.pk).update(spec=SFT)
    steer, address = f"/runs/{trains.pk}/steer/", f"/runs/{trains.pk}/steer/promotion/"
    shown = page.get(steer).text
    assert shown.count(">choose one<") == 2 and '<option value="noisy-sort">' in shown
    refused = page.post(address, RULE)
    assert refused.status_code == 422 and "the run has no rewards of its own" in refused.text
    chosen = RULE | {"scorer": "exact-match", "source": "noisy-sort"}
    wrong = page.post(address, chosen | {"knobs": "{name}"})
    assert wrong.status_code == 422 and "knobs: not JSON" in wrong.text
    assert "<option selected>exact-match</option>" in wrong.text and "{name}" in wrong.text
    named = chosen | {"knobs": '{"name": "right"}'}
    assert page.post(address, named).status_code == 302
    stored = rule_of(trains)
    assert stored["better_on"] == "right"
    assert stored["scorers"] == [{"name": "right", "type": "exact-match"}]
    assert [(one["source"], one["limit"]) for one in stored["prompts"]] == [("noisy-sort", 200)]

    # What is left empty stays as it was given.
    shown = page.get(steer).text
    assert ">as given: right<" in shown and ">as given: noisy-sort<" in shown
    assert "{&quot;name&quot;: &quot;right&quot;}" in shown
    again = RULE | {"better_on": "right", "margin": "0.1"}
    assert page.post(address, again).status_code == 302
    assert rule_of(trains) == stored and trains.promotion["margin"] == 0.1
    # Another scorer replaces it; tasks of the harness are sources too.
    other = RULE | {"scorer": "bleu", "source": "harness:sort_digits"}
    assert page.post(address, other).status_code == 302
    stored = rule_of(trains)
    assert (stored["better_on"], stored["scorers"]) == ("bleu", [{"type": "bleu"}])
    assert stored["prompts"][0]["options"] == {"task": "sort_digits"}


def test_a_run_with_rewards_needs_no_choice(page, trains):
    Run.objects.filter(pk=trains.pk).update(spec=GRPO | {"kind": "train", "model": {"name": "x/y"}})
    shown = page.get(f"/runs/{trains.pk}/steer/").text
    assert ">its own: exact-match<" in shown and ">its own: noisy-sort<" in shown
    assert page.post(f"/runs/{trains.pk}/steer/promotion/", RULE).status_code == 302
    assert rule_of(trains)["scorers"] == [{"type": "exact-match"}]
    several = [{"type": "exact-match"}, {"type": "bleu"}]
    trains.promotion["scorers"] = several
    trains.save()
    words = RULE | {"better_on": "bleu"}
    assert page.post(f"/runs/{trains.pk}/steer/promotion/", words).status_code == 302
    assert rule_of(trains)["scorers"] == several, "what the form does not show is kept"


def test_a_reward_model_is_not_promoted_by_its_answers(page, trains):
    spec = SFT | {"objective": {"type": "bradley-terry"}}
    Run.objects.filter(pk=trains.pk).update(spec=spec)
    assert 'id="promotion"' not in page.get(f"/runs/{trains.pk}/steer/").text
    given = RULE | {"scorer": "exact-match", "source": "noisy-sort"}
    refused = page.post(f"/runs/{trains.pk}/steer/promotion/", given)
    assert refused.status_code == 422 and "a reward model writes no answers" in refused.text
