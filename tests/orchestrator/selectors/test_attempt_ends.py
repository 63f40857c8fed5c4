"""Who said how an attempt ended, and what was made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Process, Run, State
from orchestrator.selectors.attempt_ends import end_of, events_of, is_bad, outcome_of
from orchestrator.services.facts import run_change
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from orchestrator.models import Run as RunType

pytestmark = pytest.mark.django_db


def told(run: RunType, number: int = 1) -> tuple[Any, dict[str, Any]]:
    run.refresh_from_db()
    attempt = Attempt.objects.get(run=run, number=number)
    events = events_of(run, number)
    end = end_of(run, attempt, events, 0.0)
    return end, outcome_of(run, attempt, end, events)


@pytest.mark.parametrize(
    "cause", ["oom", "nan", "disk", "crash", "killed", "bad-input", "node-lost", "stall", "new"]
)
def test_causes_that_are_bad(cause: str) -> None:
    assert is_bad(cause)


@pytest.mark.parametrize(
    "cause", ["", "finished", "budget", "user", "policy", "paused", "preempted"]
)
def test_causes_that_are_not(cause: str) -> None:
    assert not is_bad(cause)


def test_the_trainers_own_word(run: RunType) -> None:
    story = Story(run).begin().fails("crash", "it broke", 1)
    end, outcome = told(run)
    assert (end.said_by, end.exit_words, end.message) == ("trainer", "exit code 1", "it broke")
    assert end.time.timestamp() == pytest.approx(story.now, abs=0.01)
    assert (outcome["what"], outcome["next"], outcome["why"]) == ("ended", None, "")


def test_hosts_word_for_a_trainer_that_was_killed(run: RunType) -> None:
    Run.objects.update(max_restarts=1)
    Story(run).begin().is_killed(-11)
    end, outcome = told(run)
    assert (end.said_by, end.signal, end.exit_words) == ("host", "SIGSEGV", "SIGSEGV")
    assert outcome["what"] == "waits"
    assert outcome["why"] == "Continues from its newest checkpoint (restart 1 of 1)."


def test_an_end_by_hosts_word_alone(run: RunType) -> None:
    Story(run).begin().host_word("oom", "The kernel killed the trainer.", -9)
    assert told(run)[0].said_by == "host"


def test_restarts_that_are_used_up(run: RunType) -> None:
    Run.objects.update(max_restarts=2, restarts=2)
    Story(run).begin().is_killed()
    _, outcome = told(run)
    assert outcome["words"] == "The run ended with it. All 2 restarts are used."
    assert outcome["why"] == "", "it is not said twice"


@pytest.mark.parametrize(
    ("cause", "words"), [("oom", "on_oom"), ("nan", "on_nan"), ("bad-input", "not cured")]
)
def test_why_it_was_not_started_again(run: RunType, cause: str, words: str) -> None:
    Story(run).begin().fails(cause, "said")
    assert words in told(run)[1]["words"]


def test_a_person_who_starts_it_again_is_told_apart_from_the_policy(run: RunType) -> None:
    Story(run).begin().fails("crash", "it broke")
    run_change(run, who="ada", process=Process.NONE, cause="", reason="Retried by ada.")
    attempt_add(run, 2)
    _, outcome = told(run)
    assert (outcome["what"], outcome["next"]) == ("retried", 2)
    assert "somebody started it again as attempt 2" in outcome["words"]


def test_a_run_that_still_holds_its_node_is_not_decided(run: RunType) -> None:
    """Under a policy only host's word ends an attempt."""
    Run.objects.update(policy={"on_oom": "smaller-microbatch"})
    run.refresh_from_db()
    Story(run).begin().tell(
        {"type": "status", "state": "failed", "cause": "nan", "message": "step 3: nan"}
    )
    end, outcome = told(run)
    assert (end.cause, outcome["what"]) == ("nan", "open")


def test_a_lost_attempt_stays_the_servers_word_whatever_comes_later(run: RunType) -> None:
    Story(run).begin()
    moment = timezone.now()
    Attempt.objects.update(ended=moment, cause="node-lost", message="Lost: no word.")
    Run.objects.update(process=Process.EXITED, cause="node-lost", state=State.LOST)
    Story.tell(
        story := Story(run, attempt=1),
        {"type": "log", "lines": ["late"], "stream": "out"},
        source="host",
    )
    story.host_word("killed", "late word")
    end, _ = told(run)
    assert (end.cause, end.said_by, end.time) == ("node-lost", "server", moment)
