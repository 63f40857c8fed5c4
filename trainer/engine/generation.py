"""What samples answers, behind one verb: the trainer's own engine or vLLM, here or in processes of their own.

Legend: P prompts, S samples of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Protocol

from trainer.engine.sampler import sample

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled, Sampling
    from trainer.engine.seeds import Words
    from trainer.spec import RunSpec


class Generator(Protocol):
    """Samples from a policy as it stands."""

    @property
    def name(self) -> str:
        """As `rollout.engine` calls it."""

    @property
    def holds_copy(self) -> bool:
        """Whether it samples with weights of its own, which `sync` renews."""

    @property
    def tells_entropy(self) -> bool:
        """Whether it records the entropy of the distribution that each token was drawn from."""

    def sync(self) -> None:
        """Take over the policy's weights if they have moved. Raises Failure when that cannot be trusted."""

    def sample(
        self,
        prompts: list[list[int]],
        keys: Words,
        how: Sampling,
        *,
        budget: int,
        tick: Callable[[], None],
    ) -> list[Sampled]:
        """Answers in the order of `keys` (P, S); `tick` is called between tokens and may raise."""

    def rest(self) -> None:
        """Nothing is sampled for a while: what memory can be given back until then is."""

    def close(self) -> None:
        """Give back what it holds; its processes have ended then."""


@dataclass
class Native:
    """The trainer's own: it samples with the policy itself, so there is nothing to hand over."""

    policy: Policy
    name: ClassVar[str] = "native"
    holds_copy: ClassVar[bool] = False
    tells_entropy: ClassVar[bool] = True

    def sync(self) -> None:
        """Nothing to do."""

    def sample(
        self,
        prompts: list[list[int]],
        keys: Words,
        how: Sampling,
        *,
        budget: int,
        tick: Callable[[], None],
    ) -> list[Sampled]:
        """As `sampler.sample` does."""
        return sample(self.policy, prompts, keys, how, budget=budget, tick=tick)

    def rest(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to give back."""


def engine_pick(spec: RunSpec, device: torch.device) -> tuple[str, str]:
    """Which engine samples, and why, in words."""
    wanted = spec.rollout.engine
    if wanted != "auto":
        return wanted, "rollout.engine asks for it"
    if device.type != "cuda":
        return "native", "auto: there is no GPU, where vLLM would pay"
    if find_spec("vllm") is None:
        return "native", "auto: vllm is not installed here (trainer/requirements-vllm.txt)"
    if not spec.online:
        return "native", "auto: answers are sampled at evaluation only"
    return "vllm", "auto: a GPU, and vllm is installed"


def generator_make(
    spec: RunSpec, policy: Policy, probe: list[int], tick: Callable[[], None]
) -> Generator:
    """The engine that the spec names. `probe` is a prompt by which handed-over weights are checked.

    Raises ValueError with the field and what to change when it cannot serve this model.
    """
    uses_vllm = spec.rollout.engine == "vllm"
    if uses_vllm and find_spec("vllm") is None:
        raise ValueError(
            "rollout.engine: vllm is not installed on this machine; install "
            "trainer/requirements-vllm.txt, or use native"
        )
    # Each is loaded where it is wanted: vLLM takes seconds to import, and most machines have none.
    if spec.rollout.placement == "server":
        from trainer.engine.remote_generator import RemoteGenerator  # noqa: PLC0415

        return RemoteGenerator(spec, policy, probe, tick)
    if not uses_vllm:
        return Native(policy)
    from trainer.engine.vllm_generator import VllmGenerator  # noqa: PLC0415

    tick()
    return VllmGenerator(spec, policy, probe)
