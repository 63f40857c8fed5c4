"""Promotion rules carry themselves out: once, and only when nothing is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Comparison, Event, RegistryChange, Score
from orchestrator.services.comparisons import comparison_create
from orchestrator.services.promotions import promotions_settle
from tests.orchestrator.answered import EXACT, answers_put, checkpoint_make, dataset_make
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
RULE = {"better_on": "exact-match", "not_worse_on": "exact-match", "margin": 0.1}


@pytest.fixture
def make(ada: User, settings: Any, tmp_path: Path) -> Callable[..., Comparison]:
    settings.ANNEAL_DATA_DIR = tmp_path

    def made(**words: Any) -> Comparison:
        names = [f"checkpoint:{checkpoint_make(ada, name).pk}" for name in "ab"]
        prompts = [{"source": dataset_make(ada).pk}]
        order = {"checkpoints": names, "prompts": prompts, "scorers": [EXACT], "promotion": RULE}
        return comparison_create(owner=ada, **{**order, **words})

    return made


def test_it_waits_and_then_decides_once(make: Callable[..., Comparison]) -> None:
    made = make()
    first, second = made.arms.all()
    answers_put(first, lambda item, index: 0.0)
    assert promotions_settle() == [], "B's answers are missing"
    answers_put(second, lambda item, index: 1.0)
    assert promotions_settle() == [made.pk]
    made.refresh_from_db()
    [one] = made.promotion["decided"]
    assert one["candidate"] == second.name and one["approve"]
    second.checkpoint.refresh_from_db()
    assert (second.checkpoint.stage, second.checkpoint.stage_by) == ("approved", "promotion rule")
    [change] = RegistryChange.objects.filter(what="stage")
    assert change.new == "approved" and made.name in change.why
    first.checkpoint.refresh_from_db()
    assert first.checkpoint.stage == ""
    [event] = Event.objects.filter(data__code="promotion")
    assert event.run_id == second.checkpoint.run_id and "approved" in event.data["message"]
    assert promotions_settle() == [] and Event.objects.filter(data__code="promotion").count() == 1


def test_failed_items_do_not_keep_it_waiting(make: Callable[..., Comparison]) -> None:
    made = make()
    first, second = made.arms.all()
    answers_put(first, lambda item, index: 1.0)
    answers_put(second, lambda item, index: None if item.number == 1 else 0.0)
    assert Score.objects.filter(value=None).exists()
    promotions_settle()
    made.refresh_from_db()
    assert not made.promotion["decided"][0]["approve"]
    assert not Event.objects.filter(data__code="promotion").exists()


def test_a_comparison_without_a_rule_is_left_alone(make: Callable[..., Comparison]) -> None:
    made = make(promotion=None)
    for arm in made.arms.all():
        answers_put(arm, lambda item, index: 1.0)
    assert promotions_settle() == []


def test_a_rule_names_scorers_that_are_there(make: Callable[..., Comparison]) -> None:
    with pytest.raises(SpecError) as caught:
        make(promotion={**RULE, "not_worse_on": "bleu"})
    assert str(caught.value) == "promotion.not_worse_on: there is no scorer 'bleu'; use exact-match"
    assert not Comparison.objects.exists()
