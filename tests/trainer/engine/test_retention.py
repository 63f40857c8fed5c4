"""What people pinned stays, whatever the keep policy says."""

from __future__ import annotations

import pytest

from tests.trainer.engine.test_checkpoint import keep, make_policy, save
from trainer.engine.retention import prune
from trainer.rundir import RunDir


@pytest.fixture
def run(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step in range(1, 6):
        save(run.checkpoint(step), policy, step, {"eval/reward": step / 10})
    return run


def test_a_pinned_checkpoint_stays_beside_the_others_and_takes_nobodys_place(run):
    run.pins_write([1, 3])
    assert prune(run, keep(keep_last=2), metric="eval/reward", step=5) == [2]
    assert run.checkpoint_steps() == [1, 3, 4, 5]


def test_once_released_it_goes_with_the_next_save(run):
    run.pins_write([1])
    prune(run, keep(), metric="eval/reward", step=5)
    assert run.checkpoint_steps() == [1, 5]
    run.pins_write([])
    assert prune(run, keep(), metric="eval/reward", step=5) == [1]


def test_while_nobody_knows_what_is_pinned_nothing_goes(run):
    (run.path / "pins.json").write_text("{")
    assert prune(run, keep(), metric="eval/reward", step=5) == []
    (run.path / "pins.json").write_text('["1"]')
    assert prune(run, keep(), metric="eval/reward", step=5) == []
