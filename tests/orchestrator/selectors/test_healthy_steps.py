"""The last healthy step, the checkpoint that is left of it, and the work that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Checkpoint, Run
from orchestrator.selectors.attempt_points import AttemptPoints
from orchestrator.selectors.healthy_steps import bound_of, checkpoint_upto, healthy_of
from orchestrator.selectors.signals import Signal
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from orchestrator.models import Run as RunType

pytestmark = pytest.mark.django_db


def healthy(run: RunType, number: int = 1, bound: Signal | None = None) -> dict[str, Any]:
    attempt = Attempt.objects.get(run=run, number=number)
    return healthy_of(run, attempt, AttemptPoints(run, number), bound, attempt.ended)


def sign(kind: str = "metric", **words: Any) -> Signal:
    return Signal(**{"kind": kind, "code": "x", "time": 0.0, "title": "x", **words})


def test_errors_and_metrics_bound_it_and_the_machine_does_not() -> None:
    light = [
        sign("node"),
        sign("alert"),
        sign("silence"),
        sign("alert", level="error", code="stall"),
    ]
    assert bound_of(light) is None
    metric, error = sign("metric"), sign("log", level="error")
    assert bound_of([*light, error, metric]) is error
    assert bound_of([*light, metric, error]) is metric


def test_a_bound_by_step_and_a_bound_by_time(run: RunType) -> None:
    story = Story(run).begin().steps(1, 30)
    assert healthy(run)["step"] == 30
    assert healthy(run, bound=sign(step=12))["step"] == 11
    assert healthy(run, bound=sign("log", level="error", time=story.now - 9.5))["step"] == 20
    assert healthy(run, bound=sign(step=1))["step"] is None


def test_a_step_whose_gradient_is_no_number_was_not_done(run: RunType) -> None:
    Story(run).begin().steps(1, 9).steps(10, 10, grad_norm="Infinity")
    assert healthy(run)["last_step"] == 9


def test_a_checkpoint_behind_the_healthy_step_does_not_count(run: RunType) -> None:
    Story(run).begin().steps(1, 10).save(10).steps(11, 20).save(20).steps(21, 23)
    found = healthy(run, bound=sign(step=15))
    assert (found["step"], found["checkpoint"]["step"]) == (14, 10)
    assert (found["lost_steps"], found["lost_seconds"]) == (13, pytest.approx(13.0))


def test_without_a_checkpoint_everything_is_lost(run: RunType) -> None:
    Story(run).begin().steps(1, 7)
    found = healthy(run)
    assert (found["checkpoint"], found["lost_steps"]) == (None, 7)
    assert found["lost_seconds"] == pytest.approx(7.0, abs=0.01)


def test_an_attempt_that_logged_nothing_stands_where_it_began(run: RunType) -> None:
    Story(run).begin().steps(1, 20).save(20)
    attempt_add(run, 2)
    Story(run, attempt=2).begin(20)
    found = healthy(run, 2)
    assert (found["step"], found["began_at"], found["lost_steps"]) == (None, 20, 0)
    assert found["checkpoint"]["step"] == 20


def test_what_the_keep_policy_had_removed_by_then_was_not_there(run: RunType) -> None:
    story = Story(run).begin().steps(1, 10).save(10).steps(11, 20).save(20)
    story.steps(21, 30).save(30, removed=[20])
    before = timezone.now()
    found = checkpoint_upto(run, 1, 29, before)
    assert found is not None and found["step"] == 10
    Checkpoint.objects.filter(step=10).update(deleted=timezone.now())
    found = checkpoint_upto(run, 1, 29, before)
    assert found is not None and (found["step"], found["kept"]) == (10, False)
    assert checkpoint_upto(run, 1, 29, None) is None


def test_a_step_that_a_later_attempt_saved_again_is_known_by_its_event(run: RunType) -> None:
    Story(run).begin().steps(1, 30).save(20).save(30)
    attempt_add(run, 2)
    Story(run, attempt=2).begin(20).steps(21, 40).save(30).save(40)
    found = checkpoint_upto(run, 1, 35, timezone.now())
    assert found is not None
    assert (found["step"], found["attempt"], found["saved_again"]) == (30, 1, True)
    assert Run.objects.get().checkpoints.get(step=30).attempt == 2
    found = checkpoint_upto(run, 2, 45, timezone.now())
    assert found is not None and (found["step"], found["saved_again"]) == (40, False)
    found = checkpoint_upto(run, 1, 45, timezone.now())
    assert found is not None and found["step"] == 30, "40 is none of the first attempt's"
