"""vLLM for real. It changes the process that loads it, so these tests run in one of their own."""

from __future__ import annotations

import gc
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from trainer.adapters.lora import LoRA
from trainer.engine.adapted import adapter_attach
from trainer.engine.generation import generator_make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.engine.policy import Policy
    from trainer.engine.vllm_generator import VllmGenerator

SHAPE = {"hidden_size": 64, "heads": 2}
"""Heads of 32: vLLM's kernels for CPUs know no narrower ones."""
PROBE = [3, 7, 2, 9, 11, 4, 6, 5]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where vLLM is missing, and beside tests that it would disturb."""
    here = [item for item in items if item.get_closest_marker("vllm")]
    reason = ""
    if find_spec("vllm") is None:
        reason = "vllm is not installed; python tests/vllm/cpu_install.py does it"
    elif len(here) < len(items):
        reason = "vLLM changes the process that loads it; run pytest tests/vllm"
    for item in here if reason else ():
        item.add_marker(pytest.mark.skip(reason))


def moved(policy: Policy, size: float = 0.05) -> None:
    """As an optimizer step would."""
    with torch.no_grad():
        for _, parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)
    policy.version += 1


class Pair(NamedTuple):
    policy: Policy
    engine: VllmGenerator
    start: dict[str, torch.Tensor]


@pytest.fixture(scope="session", params=["whole", "lora"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A policy and its engine: with all weights trained, and with an adapter."""
    policy = make_policy(**SHAPE)
    if request.param == "lora":
        adapter_attach(policy.model, LoRA(type="lora", r=4).peft_config(), 0)
    spec = tiny_spec(
        "objective.type=grpo",
        "rollout.engine=vllm",
        "rollout.max_new_tokens=12",
        "data.max_prompt_tokens=300",
        "data.max_tokens=340",
    )
    generator = generator_make(spec, policy, PROBE, nothing)
    start = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    yield Pair(policy, generator, start)
    generator.close()
    del generator
    gc.collect()


@pytest.fixture
def policy(pair: Pair) -> Policy:
    """With the weights of its start: those that other tests moved sample other answers."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in pair.policy.model.named_parameters():
            weight.copy_(pair.start[name])
    pair.policy.version += 1
    return pair.policy


@pytest.fixture
def engine(pair: Pair, policy: Policy) -> VllmGenerator:
    """It has taken over none of the moves of a test, and the weights of the start."""
    pair.engine.sync()
    return pair.engine


@pytest.fixture
def move() -> Callable[[Policy], None]:
    return moved
