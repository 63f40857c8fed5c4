"""The terminal follows the starter pipeline and ends with a table that tells what was learned."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Run, State, User
from orchestrator.selectors.streams import cursors_of
from orchestrator.supervisor.demo import Follower
from tests.orchestrator.telemetry import metrics, push


@pytest.fixture
def runs(db) -> list[Run]:
    owner = User.objects.create_user("admin")
    return [
        Run.objects.create(name=name, owner=owner, spec={}, total_steps=100)
        for name in ("warm", "rl")
    ]


def change(run: Run, **fields) -> None:
    Run.objects.filter(pk=run.pk).update(**fields)


def log(run: Run, key: str, *values: float) -> None:
    Attempt.objects.get_or_create(run=run, number=1)
    first = cursors_of(run_id=run.pk, attempt=1)["trainer"] + 1
    push(run, [metrics(first + step, step, **{key: v}) for step, v in enumerate(values)])


def test_it_speaks_when_a_run_moves_on_and_is_silent_otherwise(runs, capsys):
    follower = Follower([run.id for run in runs])
    assert not follower.look()
    change(runs[0], state=State.RUNNING, step=41, phase="train")
    follower.look()
    change(runs[0], step=42)
    follower.look()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "warm  running, train, step 41 of 100" in lines[2]


def test_it_is_done_when_every_run_has_ended(runs):
    follower = Follower([run.id for run in runs])
    change(runs[0], state=State.FINISHED)
    assert not follower.look()
    change(runs[1], state=State.FAILED)
    assert follower.look()
    assert not follower.all_finished()
    change(runs[1], state=State.FINISHED)
    assert follower.all_finished()


def test_the_table_shows_the_first_and_last_value_of_what_was_learned(runs):
    now = timezone.now()
    for run in runs:
        change(run, state=State.FINISHED, step=100, started=now, ended=now + timedelta(seconds=22))
    log(runs[0], "loss", 3.0, 2.0, 1.0)
    log(runs[1], "reward", 0.1, 0.2)
    log(runs[1], "eval/accuracy", 0.34, 0.5, 0.875)
    head, warm, rl = Follower([run.id for run in runs]).table().splitlines()
    assert head.split() == ["run", "state", "steps", "figure", "first", "last", "time"]
    assert warm.split() == ["warm", "finished", "100", "loss", "3", "1", "22", "s"]
    assert rl.split() == ["rl", "finished", "100", "eval/accuracy", "0.34", "0.875", "22", "s"]
