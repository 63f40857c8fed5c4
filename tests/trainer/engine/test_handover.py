"""Shared memory holds each tensor to the bit, and its digest tells other weights apart."""

from __future__ import annotations

import os

import pytest
import torch

from trainer.engine.handover import Layout, Memory, digest

TENSORS = {
    "a": torch.arange(7, dtype=torch.float32) / 3,
    "half": torch.tensor([[1.5, -2.0, float("nan")]], dtype=torch.bfloat16),
    "none": torch.empty(0, 4),
    "scalar": torch.tensor(3.25),
    "flags": torch.tensor([True, False]),
    "turned": torch.arange(6, dtype=torch.int64).view(2, 3).T,
}


def bits(tensor):
    return tensor.contiguous().numpy(force=True).tobytes() if tensor.dtype != torch.bfloat16 else (
        tensor.contiguous().view(torch.int16).numpy().tobytes())  # fmt: skip


def test_another_holder_of_the_memory_sees_the_same_bits():
    with Memory(Layout.of(TENSORS)) as ours:
        told = ours.write(TENSORS)
        layout = Layout.from_json(ours.layout.to_json())
        with Memory(layout, os.dup(ours.descriptor)) as theirs:
            found = {name: tensor.clone() for name, tensor in theirs.tensors()}
            assert theirs.digest() == told == digest(TENSORS.values())
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].shape == tensor.shape and found[name].dtype == tensor.dtype
        assert bits(found[name]) == bits(tensor), name


def test_one_bit_or_two_swapped_tensors_make_another_digest():
    one, two = torch.randn(5, 5), torch.randn(5, 5)
    other = one.clone()
    other.view(torch.int32)[3, 3] ^= 1
    known = digest([one, two])
    assert known == digest([one.clone(), two.clone()])
    assert known != digest([other, two])
    assert known != digest([two, one])


def test_what_is_missing_is_named():
    with Memory(Layout.of(TENSORS)) as memory, pytest.raises(KeyError, match="scalar"):
        memory.write({name: each for name, each in TENSORS.items() if name != "scalar"})
