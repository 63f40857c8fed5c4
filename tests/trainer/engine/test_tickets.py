"""What travels between the processes is the same to the bit on the other side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.engine.sampler import Sampled, Sampling
from trainer.engine.seeds import sample_keys
from trainer.engine.tickets import (
    Ticket,
    answers_pack,
    answers_unpack,
    ticket_pack,
    ticket_unpack,
)
from trainer.engine.wire import Frame

HOW = Sampling(7, 0.7, top_p=0.9, top_k=3, min_p=0.1)


def ticket(prompts=5, samples=3):
    keys = sample_keys(1, "train", 2, list(range(prompts)), samples)
    return Ticket(4, [[7, 2**17, 0][: 1 + i % 3] for i in range(prompts)], keys, HOW, 1024, True)


def test_a_ticket_arrives_as_it_was():
    sent = ticket()
    found = ticket_unpack(Frame(*ticket_pack(sent)))
    assert (found.number, found.prompts, found.how, found.budget) == (4, sent.prompts, HOW, 1024)
    assert np.array_equal(found.keys_PS, sent.keys_PS) and found.keys_PS.dtype == np.uint64
    assert found.answers == 15 and found.urgent


def test_shares_hold_every_prompt_once_with_its_keys():
    whole, seen = ticket(), []
    for number in range(2):
        share = ticket_unpack(Frame(*ticket_pack(whole.share(number, 2))))
        for place, prompt in enumerate(share.prompts):
            index = place * 2 + number
            assert prompt == whole.prompts[index]
            assert np.array_equal(share.keys_PS[place], whole.keys_PS[index])
            seen.append(index)
    assert sorted(seen) == list(range(5))
    assert whole.share(6, 7).prompts == []


@pytest.mark.parametrize("truncates", [False, True])
def test_answers_arrive_to_the_bit(truncates):
    def answer(prompt, size, reason):
        kept = np.arange(size * 3, dtype=np.uint8).reshape(size, 3) if truncates else None
        logps = [-0.1 * (i + 1) for i in range(size)]
        series = {"entropies": [math.nan] * size, "log_kept": [-1e-300] * size}
        versions = list(range(size))
        return Sampled(prompt, list(range(size)), logps, finish_reason=reason, kept=kept,
                       versions=versions, **series)  # fmt: skip

    sent = [answer(0, 4, "stop"), answer(0, 1, "length"), answer(2, 3, "stop")]
    found = answers_unpack(Frame(*answers_pack(9, sent)))
    for one, two in zip(sent, found, strict=True):
        assert (one.prompt, one.tokens, one.logps, one.versions, one.finish_reason) == (
            two.prompt, two.tokens, two.logps, two.versions, two.finish_reason)  # fmt: skip
        assert one.log_kept == two.log_kept and all(map(math.isnan, two.entropies))
        assert np.array_equal(one.kept, two.kept) if truncates else two.kept is None
