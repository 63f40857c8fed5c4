"""A batch of rollouts: whole groups in every part, and nothing lost in a checkpoint."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from trainer.engine.buffer import Buffer, rows_of
from trainer.engine.packing import Sequences

PROMPTS, GROUP = 7, 3


def make_buffer() -> Buffer:
    draw = torch.Generator().manual_seed(0)
    answers = [[1] * (1 + i % 4) for i in range(PROMPTS * GROUP)]
    shape = (len(answers), 4)

    def noise() -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    kept = [np.full((len(answer), 2), i, dtype=np.uint8) for i, answer in enumerate(answers)]
    prompts = [[5] * (1 + p) for p in range(PROMPTS)]
    sequences = Sequences(prompts, answers, [i % PROMPTS for i in range(len(answers))], kept)
    return Buffer(
        sequences, noise(), noise(), noise(), torch.rand(shape[0], generator=draw) > 0.5,
        [3, 4], noise(), ref_logp_NA=noise(), value_NA=noise(), return_NA=noise(),
    )  # fmt: skip


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_parts_of_a_pass_hold_each_answer_once_and_groups_stay_whole(parts):
    buffer = make_buffer()
    of = buffer.sequences.prompt_of
    for turn in range(2):
        found = [buffer.minibatch(0, 9, turn * parts + part, parts) for part in range(parts)]
        assert sorted(answer for part in found for answer in part) == list(range(PROMPTS * GROUP))
        for part in found:
            groups = [of[answer] for answer in part]
            assert all(groups.count(prompt) == GROUP for prompt in set(groups))
        sizes = [len(part) // GROUP for part in found]
        assert max(sizes) - min(sizes) <= 1


def test_every_pass_and_step_has_an_order_of_its_own_that_is_the_same_again():
    buffer = make_buffer()
    one = [tuple(buffer.minibatch(0, 9, turn, 3)) for turn in range(6)]
    assert one == [tuple(buffer.minibatch(0, 9, turn, 3)) for turn in range(6)]
    assert set(one[:3]) != set(one[3:])
    assert set(one[:3]) != {tuple(buffer.minibatch(0, 10, turn, 3)) for turn in range(3)}
    assert set(one[:3]) != {tuple(buffer.minibatch(1, 9, turn, 3)) for turn in range(3)}


def test_a_checkpoint_gives_the_same_batch_back():
    buffer = make_buffer()
    again = Buffer.restored({name: value.clone() for name, value in buffer.tensors().items()})
    for field in fields(Buffer):
        one, two = getattr(buffer, field.name), getattr(again, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, two)
        elif field.name == "visited":
            assert one == two
    assert again.sequences.prompts == buffer.sequences.prompts
    assert again.sequences.answers == buffer.sequences.answers
    assert again.sequences.prompt_of == buffer.sequences.prompt_of
    for one, two in zip(buffer.sequences.kept, again.sequences.kept, strict=True):
        assert (one == two).all()


def test_what_a_batch_lacks_is_not_saved_and_not_made_up():
    buffer = make_buffer()
    buffer.ref_logp_NA = buffer.value_NA = buffer.return_NA = None
    again = Buffer.restored(buffer.tensors())
    assert again.ref_logp_NA is None and again.value_NA is None and again.return_NA is None


def test_rows_of_a_batch_are_cut_from_every_tensor():
    buffer = make_buffer()
    whole = buffer.rollouts([4, 9, 2], torch.device("cpu"), 4)
    whole.weight_BT = whole.old_logp_BT * 2
    whole.term_weight_BT = {"all": whole.old_logp_BT * 3}
    part = rows_of(whole, [2, 0])
    for name, source in (("old_logp_BT", "old_logp_NA"), ("ref_logp_BT", "ref_logp_NA")):
        assert torch.equal(getattr(part, name), getattr(buffer, source)[[2, 4]])
    assert torch.equal(part.return_BT, buffer.return_NA[[2, 4]])
    assert torch.equal(part.term_weight_BT["all"], buffer.old_logp_NA[[2, 4]] * 3)
    assert torch.equal(part.weight_BT, buffer.old_logp_NA[[2, 4]] * 2)
    assert part.tokens == whole.tokens == sum(len(buffer.sequences.answers[i]) for i in (4, 9, 2))
