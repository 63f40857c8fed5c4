"""Every generator that code may draw from goes on where it stood."""

from __future__ import annotations

import random

import numpy as np
import torch

from trainer.engine import randomness


def draws():
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(1)),
        float(torch.randn(1)),
    ]


def test_all_states_come_back_mid_pair_of_normals():
    randomness.seed_all(3)
    # Normal numbers are drawn in pairs: the second of each waits in the state.
    draws()
    found = randomness.states()
    expected = [draws() for _ in range(3)]
    randomness.restore({name: value.clone() for name, value in found.items()})
    assert [draws() for _ in range(3)] == expected
    assert {value.dtype for value in found.values()} <= {torch.int64, torch.float64, torch.uint8}


def test_a_seed_fixes_every_generator():
    randomness.seed_all(3)
    one = draws()
    draws()
    randomness.seed_all(3)
    assert draws() == one
    randomness.seed_all(4)
    assert all(a != b for a, b in zip(draws(), one, strict=True))
