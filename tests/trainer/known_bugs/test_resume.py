"""A run that was ended anywhere and resumed is the run that was never ended; rows are visited once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.trainer.engine.support import KINDS, TINY, make_policy
from tests.trainer.known_bugs.support import make_learner
from trainer.control import Control
from trainer.engine import orders
from trainer.engine.dataset import Cursor
from trainer.engine.means import Means

LAST = TINY["budget"]["max_steps"]
COMMON = ["grpo", "grpo-two-updates", "sft", "dpo"]
WAYS = {
    # 10 rows by 4: the epoch ends inside steps 3 and 5.
    "middle of an epoch": ("sft", 1),
    "edge of an epoch": ("sft", 3),
    "behind an epoch": ("dpo", 4),
    "between two updates on one batch": ("grpo-two-updates", 3),
    "between two batches": ("grpo-two-updates", 4),
}


def consumed(runs, *overrides):
    """Row ids of every optimizer step, by what the cursor gave out."""
    taken = []
    take = Cursor.take
    with pytest.MonkeyPatch.context() as patch:

        def noted(self, visited, count):
            examples, after = take(self, visited, count)
            taken.append([example.id for example in examples])
            return examples, after

        patch.setattr(Cursor, "take", noted)
        assert runs.run("counted", *overrides) == 0
    return taken


@pytest.mark.parametrize("kind", COMMON)
def test_bug_31_every_row_is_used_once_per_epoch(runs, kind):
    updates = 2 if kind == "grpo-two-updates" else 1
    steps = 10 * updates
    options = [*KINDS[kind], f"budget.max_steps={steps}", "evaluation.every_steps=0"]
    taken = consumed(runs, *options, "checkpoint.every_steps=0")
    assert len(taken) == 10
    flat = [row for batch in taken for row in batch]
    for epoch in range(4):
        assert Counter(flat[10 * epoch : 10 * epoch + 10]) == Counter(set(flat))
    # Another order in each epoch.
    assert flat[:10] != flat[10:20]
    assert runs.metrics("counted")[steps, "epoch"] == 4


def test_bug_31_several_updates_on_a_batch_gather_it_once(session):
    policy = make_policy()
    learner, state = make_learner(session, policy, *KINDS["grpo-two-updates"])
    for _ in range(3):
        assert "reward" in learner.gather(state, Means())
        learner.commit(state)
        assert learner.gather(state, Means()) == {}
        learner.commit(state)
        state.step += 2
    assert state.visited == [12]


@pytest.mark.parametrize("way", WAYS)
def test_bug_39_a_stopped_run_ends_as_the_run_that_was_never_stopped(runs, stop_after, way):
    kind, step = WAYS[way]
    assert runs.run("calm", *KINDS[kind]) == 0
    stop_after(runs.dir("stopped"), 1, step, Control("stop", "user", "enough"))
    assert runs.run("stopped", *KINDS[kind]) == 3
    assert runs.dir("stopped").checkpoint_steps()[-1] == step
    assert runs.resume("stopped") == 0
    assert runs.events("stopped", 2)[1]["data"]["resumed_from"] == f"step-{step}"
    assert runs.checkpoint_bytes("stopped", LAST) == runs.checkpoint_bytes("calm", LAST)
    assert runs.metrics("stopped") == runs.metrics("calm")


@pytest.mark.parametrize("moment", range(3))
def test_bug_39_a_run_that_dies_at_any_moment_goes_on_from_its_checkpoint(
    runs, monkeypatch, moment
):
    """Nothing is saved on the way out: what was done since the last checkpoint is done again."""
    kind = COMMON[moment]
    assert runs.run("calm", *KINDS[kind]) == 0
    at = random.Random(moment).randrange(40, 90)
    calls = iter(range(1 << 30))
    check = orders.Orders.check

    def die(self, *, now=False):
        if next(calls) == at:
            raise RuntimeError("the power went")
        check(self, now=now)

    monkeypatch.setattr(orders.Orders, "check", die)
    code = runs.run("killed", *KINDS[kind])
    monkeypatch.undo()
    assert code == 1
    assert runs.resume("killed") == 0
    assert runs.checkpoint_bytes("killed", LAST) == runs.checkpoint_bytes("calm", LAST)
    assert runs.metrics("killed") == runs.metrics("calm")


@pytest.mark.parametrize("kind", COMMON)
def test_bug_40_counters_go_on_where_they_stood(runs, stop_after, kind):
    assert runs.run("calm", *KINDS[kind]) == 0
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS[kind]) == 3
    assert runs.resume("run") == 0
    for key in ("num_tokens", "epoch", "learning_rate"):
        calm = [value for (_, name), value in sorted(runs.metrics("calm").items()) if name == key]
        found = [value for (_, name), value in sorted(runs.metrics("run").items()) if name == key]
        assert found == calm and len(found) == LAST
    tokens = [
        value for (_, key), value in sorted(runs.metrics("run").items()) if key == "num_tokens"
    ]
    assert tokens == sorted(tokens) and tokens[0] > 0
    steps = [event["step"] for event in runs.events("run", 2) if event["type"] == "metrics"]
    assert min(steps) == 4
