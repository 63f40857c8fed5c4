"""How long a run is with several steps per batch, and what controllers are shown of a step."""

from __future__ import annotations

import math

import pytest

from tests.trainer.engine.support import tiny_spec
from trainer.engine.progression import repeatable, share_done, total_steps


@pytest.mark.parametrize(
    ("overrides", "updates", "steps"),
    [
        (["budget.max_steps=6"], 1, 6),
        (["budget.max_steps=0", "budget.max_epochs=1"], 1, 3),
        (["budget.max_steps=0", "budget.max_epochs=2"], 4, 20),
        (["budget.max_steps=7", "budget.max_epochs=2"], 4, 7),
        (["budget.max_steps=0", "budget.max_minutes=1", "schedule.type=constant"], 1, 0),
    ],
)
def test_epochs_are_counted_in_batches_and_each_batch_in_its_steps(overrides, updates, steps):
    # Ten rows, four prompts a batch: three batches are an epoch, five are two.
    assert total_steps(tiny_spec(*overrides), 10, updates) == steps


def test_the_share_that_is_done_ends_at_1():
    assert [share_done(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert share_done(5, 0) == 0


def test_controllers_see_only_what_is_the_same_when_a_step_is_done_again():
    values = {"kl": 0.1, "loss": math.nan, "tokens/rollout_per_s": 9.0, "entropy": 1.5}
    assert repeatable(values) == {"kl": 0.1, "entropy": 1.5}
