"""Weights by broadcast: to the bit, in flight, whole when the run is to end meanwhile, and picked by GPUs."""

from __future__ import annotations

import os
import signal
from threading import Thread

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from tests.trainer.engine.test_handover import TENSORS, bits
from tests.trainer.engine.test_remote_generator import (
    SERVER,
    asked,
    by,
    colocated,
    exchange_in_flight,
    made,
    same,
)
from tests.trainer.engine.test_served import move
from trainer.engine import generator_start
from trainer.engine.broadcast import Broadcast
from trainer.engine.failure import Failure, Halt
from trainer.engine.handover import Layout, digest


def test_every_kind_of_tensor_arrives_to_the_bit(tmp_path):
    layout, cpu, met = Layout.of(TENSORS), torch.device("cpu"), []

    def receive():
        met.append(Broadcast(layout, str(tmp_path), 1, 2, cpu))
        met[0].receive()

    other = Thread(target=receive)
    other.start()
    giver = Broadcast(layout, str(tmp_path), 0, 2, cpu)
    giver.send(TENSORS, lambda reached: None)
    other.join(30)
    found = dict(met[0].tensors())
    assert {name: bits(each) for name, each in found.items()} == {
        name: bits(each) for name, each in TENSORS.items()
    }
    assert all(found[name].shape == each.shape for name, each in TENSORS.items())
    assert met[0].digest() == digest(TENSORS.values())
    met[0].forget()
    assert list(met[0].tensors()) == []
    for one in (giver, *met):
        one.close()


@pytest.mark.slow
def test_a_run_that_is_to_end_during_a_broadcast_gives_all_of_it_first():
    policy = make_policy()
    generator = made(policy, "rollout.weight_transport=broadcast")

    def stop():
        raise Halt("stopped", "user", "stopped by ada")

    try:
        generator._tick = stop
        move(policy)
        policy.version += 1
        with pytest.raises(Halt, match="stopped by ada"):
            generator.push(policy.version)
        generator._tick = nothing
        whole = asked(policy)
        assert same(by(generator, whole), colocated(policy, whole))
    finally:
        generator.close()


@pytest.mark.slow
def test_weights_go_by_broadcast_also_in_flight_and_a_death_is_named():
    policy = make_policy()
    policy.eos_ids = (1 << 20,)
    generator = made(policy, "rollout.weight_transport=broadcast")
    try:
        assert generator._slots == [], "no weights lie in shared memory"
        whole = asked(policy)
        assert same(by(generator, whole), colocated(policy, whole))
        exchange_in_flight(policy, generator)
        (link,) = generator._links
        os.kill(link.pid, signal.SIGKILL)
        policy.version += 1
        with pytest.raises(Failure, match="was ended by SIGKILL") as failure:
            generator.sync()
        assert failure.value.cause == "killed"
    finally:
        generator.close()


@pytest.mark.parametrize(
    ("gpus", "parts", "wanted", "found"),
    [
        (2, 1, "auto", True),
        (3, 2, "auto", False),
        (1, 1, "auto", False),
        (2, 1, "shared-memory", False),
        (2, 1, "broadcast", True),
    ],
)
def test_a_broadcast_is_picked_where_each_process_has_a_gpu(
    monkeypatch, gpus, parts, wanted, found
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    spec = tiny_spec(
        *SERVER, f"rollout.weight_transport={wanted}", f"rollout.tensor_parallel={parts}",
        "rollout.engine=vllm",
    )  # fmt: skip
    assert generator_start.broadcasts(spec, torch.device("cuda")) is found
    if wanted != "broadcast":
        assert not generator_start.broadcasts(spec, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if wanted == "broadcast":
        with pytest.raises(
            ValueError, match=r"rollout\.weight_transport: .* raise resources\.gpus"
        ):
            generator_start.broadcasts(spec, torch.device("cuda"))
