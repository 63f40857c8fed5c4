"""What is drawn ahead: never too old, in order, to the last step and not beyond, anew when knobs move."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from trainer.engine.ahead import Ahead
from trainer.engine.dataset import Cursor, parts_encode, parts_load
from trainer.engine.sampler import Sampled, Sampling
from trainer.engine.seeds import sample_keys

HOW = Sampling(4)


class Recorder:
    """Notes the version at which each batch was asked for."""

    def __init__(self):
        self.version = 0
        self.asked: dict[int, tuple[int, list[list[int]]]] = {}
        self.cancelled: list[int] = []

    def submit(self, ticket, prompts, keys, how):
        assert ticket not in self.asked
        self.asked[ticket] = (self.version, prompts)

    def wait(self, ticket, tick):
        assert ticket not in self.cancelled
        return [Sampled(0, [1], [0.0], [0.0], "stop", [0.0])]

    def cancel(self, ticket):
        self.cancelled.append(ticket)


@pytest.fixture(scope="module")
def cursor():
    spec = tiny_spec("objective.type=grpo")
    parts = parts_load(spec.data.train, seed=0, learns_from="rollouts", datasets={})
    parts_encode(parts, make_policy(), spec.data, "rollouts")
    return Cursor(parts, spec.curriculum, spec.seed)


def filled(ahead, step, visited, *, most, updates=1, last=0, how=HOW):
    ahead.fill(
        step=step, updates=updates, last=last, visited=visited, size=3, how=how, most=most,
        keys=lambda step, prompts: sample_keys(0, "train", step, list(range(prompts)), 2),
    )  # fmt: skip


@given(most=st.integers(1, 5), updates=st.integers(1, 3), batches=st.integers(1, 12))
def test_no_batch_is_asked_for_too_early_and_none_is_left_out(cursor, most, updates, batches):
    recorder = Recorder()
    ahead = Ahead(recorder, cursor)
    visited, plain, last = cursor.start(), cursor.start(), batches * updates
    for batch in range(batches):
        step = batch * updates + 1
        recorder.version = batch
        filled(ahead, step, visited, most=most, updates=updates, last=last)
        assert len(ahead.waiting) == min(most + 1, batches - batch)
        asked, _ = ahead.take(step, nothing)
        version, prompts = recorder.asked[asked.ticket]
        assert batch - version <= most
        # As if nobody had run ahead: the same rows in the same order.
        examples, plain = cursor.take(plain, 3)
        assert prompts == [example.prompt for example in examples]
        visited = asked.visited
        assert visited == plain
    assert not ahead.waiting


def test_what_was_drawn_by_other_knobs_is_taken_back_and_asked_for_anew(cursor):
    recorder = Recorder()
    ahead = Ahead(recorder, cursor)
    fill = partial(filled, ahead, 1, cursor.start(), most=2)
    fill()
    fill()
    assert len(recorder.asked) == 3
    fill(how=Sampling(4, 0.7))
    assert recorder.cancelled == [1, 2, 3]
    asked, _ = ahead.take(1, nothing)
    assert asked.ticket == 4 and asked.how.temperature == 0.7
    assert recorder.asked[4][1] == recorder.asked[1][1]
