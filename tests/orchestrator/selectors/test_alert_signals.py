"""Which alerts are signs of trouble, and what is known of a stall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from orchestrator.models import Event
from orchestrator.selectors.alert_signals import (
    NOT_SIGNS,
    alert_signals,
    stall_now,
    stall_open,
    stall_shape,
)
from orchestrator.selectors.attempt_ends import events_of
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


def test_errors_and_unknown_warnings_count_and_what_is_said_of_normal_work_does_not(
    run: Run,
) -> None:
    story = Story(run).begin()
    for code in sorted(NOT_SIGNS):
        story.alert(code)
    story.alert("model", "info").alert("entropy-low", "info")
    story.alert("checkpoint", "error", step=7).alert("entropy-collapse")
    story.alert("stop-escalated", source="host")
    found = alert_signals(events_of(run, 1), 0.0)
    assert [one.code for one in found] == ["checkpoint", "entropy-collapse", "stop-escalated"]
    assert (found[0].title, found[0].step, found[0].level) == (
        "A checkpoint could not be saved",
        7,
        "error",
    )
    assert found[1].title == "Trainer raised the alert entropy-collapse"
    assert found[1].event == Event.objects.get(data__code="entropy-collapse").pk


def test_older_alerts_than_asked_for_are_left_out_but_a_stall_that_lasts_counts(run: Run) -> None:
    story = Story(run, ago=5000).begin().alert("stall", source="host", data={"silent_s": 30.0})
    told = story.now
    story.alert("checkpoint", "error").wait(3000)
    [found] = alert_signals(events_of(run, 1), story.now)
    assert found.code == "stall"
    assert found.time == pytest.approx(told - 30, abs=0.01), "it began when silence began"


def test_a_stall_that_passed_is_no_sign(run: Run) -> None:
    story = Story(run).begin().alert("stall", source="host")
    assert stall_open(events_of(run, 1)) is not None and stall_now(run)
    story.alert("stall-over", "info", source="host")
    assert stall_open(events_of(run, 1)) is None and not stall_now(run)
    assert alert_signals(events_of(run, 1), 0.0) == []
    story.alert("stall", source="host")
    assert len(alert_signals(events_of(run, 1), 0.0)) == 1


def test_a_stall_of_an_older_attempt_is_not_the_runs(run: Run) -> None:
    Story(run).begin().alert("stall", source="host")
    run.attempt = 2
    assert not stall_now(run)


@pytest.mark.parametrize(
    ("raw", "stacks"),
    [
        ("one\n  two", [("", "one\n  two")]),
        (["one", "two"], [("", "one\ntwo")]),
        ({"trainer": ["a", "b"], "7": "c"}, [("trainer", "a\nb"), ("7", "c")]),
        ([{"pid": 7, "stack": ["a", "b"]}], [("pid 7", "a\nb")]),
        (None, []),
        ("", []),
        ([], []),
        (3, []),
    ],
)
def test_stacks_are_read_in_whatever_form_they_come(raw: object, stacks: list) -> None:
    data = {"code": "stall", "data": {"phase": "train", "silent_s": "no", "stacks": raw}}
    found = stall_shape(Event(time=timezone.now(), data=data))
    assert [(one["title"], one["text"]) for one in found["stacks"]] == stacks
    assert (found["phase"], found["silent_s"]) == ("train", None)
