"""vLLM in the trainer's process: continuous batching, prefix caching, weights handed over in memory.

The engine is built without weights and is given the policy's: each tensor once, tied ones once, in the
precision that sampling uses. A LoRA adapter is handed over as an adapter beside its base. After each
hand-over the engine's log-probabilities of a probe are compared with the trainer's own. On a GPU it may sleep
while the trainer learns.
Legend: P prompts, S samples of each.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.engine import randomness
from trainer.engine.adapted import adapter_config, adapter_weights, is_adapted
from trainer.engine.sleep import Sleeper
from trainer.engine.vllm_engine import Build, VllmEngine, base_weights, refused
from trainer.engine.weight_check import PROBE_TOKENS, difference, probe_logps, trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled, Sampling
    from trainer.engine.seeds import Words
    from trainer.spec import RunSpec

SEED_BITS = np.uint64(0x7FFFFFFFFFFFFFFF)


class VllmGenerator:
    """Samples with vLLM from a copy of the policy's weights."""

    name = "vllm"
    holds_copy = True
    tells_entropy = False

    def __init__(self, spec: RunSpec, policy: Policy, probe: list[int]) -> None:
        """Build the engine. Raises ValueError with the field and what to change."""
        self.policy = policy
        self._probe = probe[:PROBE_TOKENS]
        self._synced: int | None = None
        build = Build.of(spec, policy)
        with (
            randomness.kept(),
            explained(),
            tempfile.TemporaryDirectory(prefix="anneal-vllm-") as folder,
        ):
            policy.model.config.save_pretrained(folder)
            self._engine = VllmEngine(folder, build)
            self._sleeper = Sleeper(self._engine.llm, spec.rollout.sleep_level * build.sleeps)
            if is_adapted(policy.model):
                self._push(base_weights(policy.model))
            # Some of what it cannot do shows at its first work only.
            self.sync()

    def close(self) -> None:
        """Nothing but memory, which the process's end gives back."""

    def rest(self) -> None:
        """Give the GPU's memory to the trainer, where the spec asks for it."""
        self._sleeper.rest()

    # --- weights ---------------------------------------------------------------------------------

    def sync(self) -> None:
        """Hand the weights over if they have moved since the last time, and compare with the trainer's."""
        with randomness.kept():
            forgotten = self._sleeper.wake_weights()
            if not forgotten and self._synced == self.policy.version:
                self._sleeper.wake()
                return
            model = self.policy.model
            if not is_adapted(model):
                self._push(base_weights(model))
            else:
                if forgotten:
                    self._push(base_weights(model))
                self._adapter_push()
            self._sleeper.wake()
        self._check()
        self._synced = self.policy.version

    def _push(self, named: dict[str, Any]) -> None:
        dtype = self.policy.dtype
        self._engine.weights_take((name, each.detach().to(dtype)) for name, each in named.items())

    def _adapter_push(self) -> None:
        model = self.policy.model
        weights = {name: each.detach() for name, each in adapter_weights(model).items()}
        self._engine.adapter_take(adapter_config(model, "base"), weights)

    def _check(self) -> None:
        """Compare what both say about the probe. Raises Failure when they differ by more than precision."""
        trusted(self.difference(), self._engine.build.dtype, self.name)

    def difference(self) -> float:
        """Mean absolute difference of the probe's log-probabilities, nats a token; NaN counts as inf."""
        with randomness.kept():
            theirs = self._engine.probe_logps(self._probe)
        return difference(probe_logps(self.policy, self._probe), theirs)

    # --- answers ---------------------------------------------------------------------------------

    def sample(
        self,
        prompts: list[list[int]],
        keys: Words,
        how: Sampling,
        *,
        budget: int,
        tick: Callable[[], None],
    ) -> list[Sampled]:
        """Answers in the order of `keys` (P, S); vLLM divides the work by its cache, not by `budget`."""
        self.sync()
        engine, samples = self._engine, keys.shape[1]
        names = [
            engine.add(prompt, prompts[prompt], how, int(keys[prompt, sample] & SEED_BITS))
            for prompt in range(len(prompts))
            for sample in range(samples)
        ]
        found: dict[str, Sampled] = {}
        try:
            with randomness.kept():
                while engine.busy:
                    tick()
                    found |= dict(engine.step())
        finally:
            # Left early: somebody wants the run to end, and may want it to go on sampling at its end.
            engine.abort(names)
        return [found[name] for name in names]


@contextmanager
def explained() -> Iterator[None]:
    """What vLLM cannot do with a model becomes a sentence with the field; a full memory stays one."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error).lower():
            raise
        raise ValueError(refused(error)) from error
