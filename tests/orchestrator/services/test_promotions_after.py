"""A rule that a run is given before it has a checkpoint carries itself out: once, when the run has finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from orchestrator.models import Checkpoint, Comparison, Event, Run, State
from orchestrator.services.promotions import promotions_settle
from orchestrator.services.promotions_after import promotions_begin, promotions_failed_tell
from orchestrator.services.runs import run_create, run_patch
from tests.orchestrator.answered import (
    EXACT,
    answers_put,
    checkpoint_add,
    checkpoint_make,
    dataset_make,
    runs_end,
)
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def spec_on(start: str, **more: Any) -> dict[str, Any]:
    """A stage that trains on from a model."""
    spec: dict[str, Any] = {
        "objective": {"type": "grpo"}, "model": {"name": start}, "rewards": [EXACT], "budget": {"max_steps": 5},
        "data": {"train": [{"source": "arithmetic"}],
                 "eval": [{"source": "arithmetic", "split": "test", "limit": 12}]},
    }  # fmt: skip
    return spec | more


@pytest.fixture
def stages(ada: User, settings: Any, tmp_path: Path) -> tuple[Checkpoint, Run]:
    """The warm start's checkpoint, and the stage behind it with a rule."""
    settings.ANNEAL_DATA_DIR = tmp_path
    warm = checkpoint_make(ada, "warm")
    run = run_create(owner=ada, spec=spec_on(f"run:{warm.run_id}"), name="grpo", promotion={})
    return warm, run


def finish(run: Run, step: int = 5) -> Checkpoint:
    Run.objects.filter(pk=run.pk).update(
        state=State.FINISHED, process="exited", cause="budget", complete=True
    )
    return checkpoint_add(run, step)


def told(run: Run) -> list[str]:
    return [one.data["message"] for one in Event.objects.filter(run=run, data__code="promotion")]


def test_it_waits_for_the_run_and_compares_once(stages: tuple[Checkpoint, Run]) -> None:
    warm, run = stages
    assert run.promotion["better_on"] == "exact-match" and run.promotion["prompts"]
    assert promotions_begin() == [], "the run has not finished"
    Run.objects.filter(pk=run.pk).update(state=State.FINISHED)
    assert promotions_begin() == [], "its last lines, and the checkpoint, are still on their way"
    last = finish(run)
    assert promotions_begin() == [run.pk]
    assert promotions_begin() == []
    made = Comparison.objects.get()
    assert [arm.checkpoint for arm in made.arms.all()] == [warm, last]
    assert made.owner == run.owner and made.promotion["better_on"] == "exact-match"
    assert "decided by the comparison" in told(run)[0]


@pytest.mark.parametrize("better", [True, False])
def test_the_checkpoint_is_approved_if_the_rule_holds(
    stages: tuple[Checkpoint, Run], better: bool
) -> None:
    _, run = stages
    last = finish(run)
    promotions_begin()
    first, second = Comparison.objects.get().arms.all()
    answers_put(first, lambda item, index: 0.0)
    assert promotions_settle() == []
    answers_put(second, lambda item, index: float(better))
    promotions_settle()
    last.refresh_from_db()
    assert last.stage == ("approved" if better else "")
    assert ("is approved by" if better else "is not approved") in told(run)[1]
    assert promotions_settle() == [] and len(told(run)) == 2


def test_a_stopped_run_is_not_promoted(stages: tuple[Checkpoint, Run]) -> None:
    _, run = stages
    finish(run)
    Run.objects.filter(pk=run.pk).update(state=State.STOPPED, cause="user")
    assert promotions_begin() == [] and not Comparison.objects.exists()


def test_what_is_in_the_way_is_told_once_and_leaves_nothing(stages: tuple[Checkpoint, Run]) -> None:
    warm, run = stages
    finish(run)
    Checkpoint.objects.filter(pk=warm.pk).delete()
    assert promotions_begin() == [run.pk] and promotions_begin() == []
    [sentence] = told(run)
    assert "could not be carried out" in sentence and f"there is no run:{warm.run_id}" in sentence
    assert not Comparison.objects.exists()


def test_a_comparison_that_fails_is_told_once(stages: tuple[Checkpoint, Run]) -> None:
    _, run = stages
    finish(run)
    promotions_begin()
    assert promotions_failed_tell() == []
    runs_end(Comparison.objects.get(), State.FAILED, "There is no tokenizer.")
    assert promotions_failed_tell() == [run.pk] and promotions_failed_tell() == []
    assert "There is no tokenizer." in told(run)[-1]


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ({"baseline": "checkpoint:aaaaaaaaaaaa"}, "promotion.baseline", "there is no checkpoint"),
        ({"baseline": "run:aaaaaaaaaaaa"}, "promotion.baseline", "there is no run:"),
        ({"better_on": "bleu"}, "promotion.better_on", "there is no scorer 'bleu'"),
        ({"sampling": {"heat": 1}}, "promotion.sampling.heat", "there is no such setting"),
        ({"scorers": [{"type": "nothing"}]}, "promotion.scorers", "nothing"),
        ({"prompts": [{"source": "aaaaaaaaaaaa"}]}, "promotion.prompts.0.source", "neither a dataset"),
        ({"margin": -1}, "promotion.margin", "greater"),
        ({"marjin": 1}, "promotion.marjin", ""),
    ],
)  # fmt: skip
def test_a_faulty_rule_is_refused_when_it_is_given(
    stages: tuple[Checkpoint, Run], ada: User, rule: dict[str, Any], path: str, words: str
) -> None:
    _, run = stages
    before = Run.objects.count()
    for attempt in (
        lambda: run_create(owner=ada, spec=run.spec, promotion=rule),
        lambda: run_patch(run_id=run.pk, user=ada, changes={"promotion": rule}),
    ):
        with pytest.raises(SpecError) as caught:
            attempt()
        assert any(
            one.path.startswith(path) and words in one.message for one in caught.value.problems
        )
    assert Run.objects.count() == before


def test_a_run_that_warms_up_by_itself_must_name_its_baseline(ada: User) -> None:
    spec = spec_on("starter", model={"name": "starter", "warm_start": "noisy_sort_sft"})
    with pytest.raises(SpecError, match="name a checkpoint:ID"):
        run_create(owner=ada, spec=spec, promotion={})


def test_rest_gives_changes_shows_and_takes_away(
    client: Client,
    bearer: Callable[..., dict[str, str]],
    stages: tuple[Checkpoint, Run],
    ada: User,
) -> None:
    warm, run = stages
    headers, json = bearer(ada, "operate"), "application/json"
    body = {
        "spec": spec_on(f"checkpoint:{warm.pk}"),
        "promotion": {"prompts": [{"source": dataset_make(ada).pk}], "not_worse_on": "exact-match", "margin": 0.1},
    }  # fmt: skip
    made = client.post("/api/runs", body, content_type=json, headers=headers)
    assert made.status_code == 201, made.content
    rule = made.json()["promotion"]
    assert (rule["baseline"], rule["margin"], rule["better_on"]) == ("start", 0.1, "exact-match")
    address = f"/api/runs/{run.pk}"

    def patch(rule: Any) -> Any:
        return client.patch(address, {"promotion": rule}, content_type=json, headers=headers)

    assert patch(None).json()["promotion"] == {}
    assert patch({"baseline": f"checkpoint:{warm.pk}"}).json()["promotion"]["baseline"] != "start"
    refused = patch({"better_on": "bleu"})
    assert refused.status_code == 422 and "promotion.better_on" in refused.content.decode()
    finish(run)
    promotions_begin()
    late = patch(None)
    assert late.status_code in (409, 422) and "carried out already" in late.content.decode()
    client.force_login(ada)
    page = client.get(reverse("run", args=[run.pk])).content.decode()
    assert "Promotion" in page and reverse("comparison", args=[Comparison.objects.get().pk]) in page


def test_the_steer_tab_gives_and_takes_a_rule(
    client: Client, stages: tuple[Checkpoint, Run], ada: User, vera: User
) -> None:
    warm, run = stages
    address = reverse("run-promotion", args=[run.pk])
    client.force_login(vera)
    assert client.post(address, {"off": "1"}).status_code == 403
    client.force_login(ada)
    client.post(address, {"off": "1"})
    run.refresh_from_db()
    assert run.promotion == {}
    steer = reverse("run-tab", args=[run.pk, "steer"])
    assert 'name="better_on"' in client.get(steer).content.decode()
    refused = client.post(address, {"baseline": "start", "better_on": "bleu", "margin": "0.1"})
    assert refused.status_code == 422 and "promotion.better_on" in refused.content.decode()
    typed = {"baseline": f"checkpoint:{warm.pk}", "margin": "0.1", "not_worse_on": "exact-match"}
    client.post(address, typed)
    run.refresh_from_db()
    assert (run.promotion["baseline"], run.promotion["margin"]) == (typed["baseline"], 0.1)
    assert "better on exact-match" in client.get(steer).content.decode()
    assert "Begins by itself" in client.get(reverse("run", args=[run.pk])).content.decode()
