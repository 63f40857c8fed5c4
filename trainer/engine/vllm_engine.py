"""vLLM as it is used here: built from a configuration, given weights in memory, asked for single answers.

It knows nothing of the policy, so it serves in the trainer's process and in one of its own alike.
Every answer has a seed of its own, and log-probabilities are those of the distribution that was drawn
from (`processed_logprobs`), temperature and kept set included. When weights change while answers are being
written, their caches are thrown away and what was written so far is read anew by the new weights.
Legend: T tokens, V vocabulary.
"""

# vLLM is imported where it is used: whoever samples natively need not have it.
# ruff: noqa: PLC0415

from __future__ import annotations

import logging
import math
import os
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import save_file

from trainer.engine.adapted import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainer.engine.failure import Failure
from trainer.engine.handover import Layout, Memory
from trainer.engine.sampler import Sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch

    from trainer.engine.handover import Weights
    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampling
    from trainer.spec import RunSpec

KEPT_VOCABULARY = 32_768
"""Up to this many tokens vLLM is asked for the whole distribution, to learn what truncation kept."""
CPU_CACHE = (64 << 20, 2 << 30)
"""Bytes of the key-value cache on a CPU: at least, at most."""
RELOADING = "vllm.model_executor.model_loader.reload.layerwise"
ADAPTER_ID = 1
SETTINGS = {
    # In this process: weights are handed over in memory, and no other process is left behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",
}


@dataclass(frozen=True)
class Build:
    """What an engine is built for, as plain data."""

    dtype: str
    vocabulary: int
    eos_ids: tuple[int, ...]
    longest: int
    """Tokens of the longest prompt with its answer."""
    cache_bytes: int
    """Of the key-value cache on a CPU; 0 on a GPU."""
    memory_share: float
    """Of the GPU's memory."""
    lora_rank: int = 0
    """Of the adapter; 0 without."""
    sleeps: bool = False
    """Whether its memory can be given back for a while."""
    tensor_parallel: int = 1
    """GPUs that hold the model in parts."""

    @classmethod
    def of(cls, spec: RunSpec, policy: Policy, *, replicas: int = 1) -> Build:
        """Raises ValueError with the field and what to change."""
        how, on_cpu = spec.rollout, policy.device.type == "cpu"
        truncates = how.top_p < 1 or how.top_k > 0 or how.min_p > 0
        if truncates and policy.vocabulary > KEPT_VOCABULARY:
            raise ValueError(no_truncation(policy.vocabulary))
        longest = _longest(spec, policy)
        adapters = getattr(policy.model, "peft_config", None) or {}
        return cls(
            dtype=str(policy.dtype).removeprefix("torch."),
            vocabulary=policy.vocabulary,
            eos_ids=policy.eos_ids,
            longest=longest,
            cache_bytes=_cache_bytes(spec, policy, longest, replicas) if on_cpu else 0,
            memory_share=how.memory_share,
            lora_rank=max((_rank_offered(each.r) for each in adapters.values()), default=0),
            sleeps=how.sleep_level > 0 and not on_cpu,
            tensor_parallel=how.tensor_parallel,
        )


@dataclass
class Running:
    """One answer that is being written."""

    prompt: int
    truncates: bool
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)

    def add(self, output: Any, version: int, vocabulary: int) -> None:
        """Take what was drawn since the last look."""
        for token, told in zip(output.token_ids, output.logprobs or (), strict=True):
            self.tokens.append(token)
            self.logps.append(told[token].logprob)
            self.versions.append(version)
            if self.truncates:
                kept_V = np.zeros(vocabulary, dtype=bool)
                kept_V[[t for t, each in told.items() if each.logprob > -math.inf]] = True
                self.kept.append(np.packbits(kept_V))

    def sampled(self, finish_reason: str) -> Sampled:
        """The answer, once it has ended."""
        unknown = [math.nan] * len(self.tokens)
        return Sampled(
            prompt=self.prompt,
            tokens=self.tokens,
            logps=self.logps,
            entropies=unknown,
            finish_reason="stop" if finish_reason == "stop" else "length",
            log_kept=unknown if self.truncates else [0.0] * len(self.tokens),
            kept=np.stack(self.kept) if self.kept else None,
            versions=self.versions,
        )


class VllmEngine:
    """An engine without weights of its own, until it is given some."""

    def __init__(self, folder: str, build: Build) -> None:
        """Build it for the model whose configuration lies in a folder."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from vllm import LLM

        self.build = build
        self.version = 0
        """Of the weights that it has."""
        options: dict[str, Any] = {"gpu_memory_utilization": build.memory_share}
        if build.cache_bytes:
            options = {"kv_cache_memory_bytes": build.cache_bytes, "enforce_eager": True}
        if build.lora_rank:
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": build.lora_rank}
        if build.sleeps:
            options |= {"enable_sleep_mode": True}
        self.llm = LLM(
            model=folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype=build.dtype,
            max_model_len=build.longest,
            max_logprobs=-1,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
            disable_log_stats=True,
            seed=0,
            tensor_parallel_size=build.tensor_parallel,
            **options,
        )
        # Here, since building sets levels.
        _quiet()
        self._engine = self.llm.llm_engine
        self._adapter: Any = None
        self._names = count()
        self._running: dict[str, Running] = {}
        self._ended: list[tuple[str, Sampled]] = []

    # --- weights ---------------------------------------------------------------------------------

    def weights_take(self, named: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take over these weights, named as in the plain model. Raises Failure when it keeps older ones."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(named)})
        self._taken()

    def memory_take(self, memory: Weights) -> None:
        """The same from shared memory, which the workers of a model in parts read themselves."""
        if self.build.tensor_parallel == 1:
            self.weights_take(memory.tensors())
            return
        assert isinstance(memory, Memory)
        place = (os.getpid(), memory.descriptor, memory.layout.to_json())
        self.llm.collective_rpc(_worker_take, args=place)
        self._taken()

    def _taken(self) -> None:
        if self.build.cache_bytes:
            self.llm.apply_model(_head_repack)
        self._forget()

    def adapter_take(self, config: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over an adapter, given as peft's configuration and tensors.

        It is read from files. A known id is not read again, so the adapter that has it goes first; answers
        that are being written go on with what the id stands for now.
        """
        from vllm.lora.request import LoRARequest

        with tempfile.TemporaryDirectory(prefix="anneal-vllm-") as name:
            folder = Path(name)
            (folder / ADAPTER_CONFIG).write_text(config)
            save_file(dict(weights), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
            if self._adapter is not None:
                self._engine.remove_lora(ADAPTER_ID)
            self._adapter = LoRARequest("policy", ADAPTER_ID, name)
            self._engine.add_lora(self._adapter)
        self._forget()

    def _forget(self) -> None:
        """What it kept of prompts and answers was computed by the old weights."""
        if not self.llm.reset_prefix_cache(reset_running_requests=True):
            raise Failure(
                "weight-sync", "rollout.engine: vLLM could not empty its cache after a hand-over"
            )

    def probe_logps(self, probe: Sequence[int]) -> list[float]:
        """Log-probability of each token of the probe but the first; answers that run meanwhile go on."""
        if self.build.lora_rank and self._running:
            # Beside other answers vLLM mistakes an adapter's rows when it scores a prompt.
            told = self._ask(
                [
                    (probe[:end], {"max_tokens": 1, "logprob_token_ids": [probe[end]]})
                    for end in range(1, len(probe))
                ]
            )
            return [
                one.outputs[0].logprobs[0][token].logprob
                for one, token in zip(told, probe[1:], strict=True)
            ]
        (told_all,) = self._ask([(probe, {"prompt_logprobs": 0, "max_tokens": 1})])
        return [next(iter(each.values())).logprob for each in told_all.prompt_logprobs[1:]]

    def _ask(self, prompts: Sequence[tuple[Sequence[int], dict[str, Any]]]) -> list[Any]:
        """vLLM's outputs for prompts that are no answers' beginnings, in their order."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        names = [f"probe-{next(self._names)}" for _ in prompts]
        for name, (ids, options) in zip(names, prompts, strict=True):
            kind = RequestOutputKind.FINAL_ONLY
            self._add(
                name, list(ids), SamplingParams(detokenize=False, output_kind=kind, **options)
            )
        found: dict[str, Any] = {}
        while len(found) < len(names):
            found |= {output.request_id: output for output in self._step()}
        return [found[name] for name in names]

    # --- answers ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether answers are being written, or have not been taken away."""
        return bool(self._running or self._ended)

    def add(self, prompt: int, ids: Sequence[int], how: Sampling, seed: int) -> str:
        """Begin an answer to the prompt with that number; returns the answer's name. Raises Failure."""
        if how.truncates and self.build.vocabulary > KEPT_VOCABULARY:
            raise Failure("bad-input", no_truncation(self.build.vocabulary))
        name = str(next(self._names))
        self._add(name, list(ids), self._params(how, seed))
        self._running[name] = Running(prompt, how.truncates)
        return name

    def step(self) -> list[tuple[str, Sampled]]:
        """One token of every answer; returns those that have ended, by name."""
        if not self._ended and self._running:
            self._step()
        ended, self._ended = self._ended, []
        return ended

    def abort(self, names: Iterable[str]) -> None:
        """Leave off these answers."""
        mine = [name for name in names if self._running.pop(name, None) is not None]
        if mine:
            self._engine.abort_request(mine)

    def _step(self) -> list[Any]:
        """One step of vLLM; returns its outputs that belong to no answer."""
        others = []
        for output in self._engine.step():
            running = self._running.get(output.request_id)
            if running is None:
                others.append(output)
                continue
            running.add(output.outputs[0], self.version, self.build.vocabulary)
            if output.finished:
                del self._running[output.request_id]
                ended = running.sampled(output.outputs[0].finish_reason)
                self._ended.append((output.request_id, ended))
        return others

    def _add(self, name: str, ids: list[int], params: Any) -> None:
        prompt = {"prompt_token_ids": ids}
        self._engine.add_request(name, prompt, params, lora_request=self._adapter)

    def _params(self, how: Sampling, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            min_p=how.min_p,
            seed=seed if how.temperature else None,
            max_tokens=how.max_new_tokens,
            stop_token_ids=list(self.build.eos_ids),
            # The end tokens are the policy's; vLLM would add those of the model's own configuration.
            ignore_eos=True,
            logprobs=-1 if how.truncates else 0,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )


def refused(error: Exception) -> str:
    """A sentence for what vLLM says of a model that it cannot run."""
    return f"rollout.engine: vLLM cannot run this model ({_last_line(error)}); use native"


def no_truncation(vocabulary: int) -> str:
    """Why top_p, top_k and min_p cannot be had."""
    return (
        "rollout.engine: with top_p, top_k or min_p the trainer must know which tokens were kept, which vLLM "
        f"tells only for vocabularies of up to {KEPT_VOCABULARY} tokens (this one has {vocabulary}); "
        "keep all tokens (top_p = 1, top_k = 0, min_p = 0), or use native"
    )


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights below an adapter, by the names that they have without it; all of them where there is none."""
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if "lora_" not in name
    }


def _longest(spec: RunSpec, policy: Policy) -> int:
    """Tokens of the longest prompt with its answer, in training or evaluation."""
    answer = max(spec.rollout.max_new_tokens, spec.evaluation.max_new_tokens or 0)
    wanted = spec.data.max_prompt_tokens + answer
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", wanted)
    return min(wanted, int(limit or wanted))


def _cache_bytes(spec: RunSpec, policy: Policy, longest: int, replicas: int) -> int:
    """Room for all answers of a step at once, within bounds."""
    shape = policy.model.config.get_text_config()
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    token = 2 * shape.num_hidden_layers * heads * width * 4
    answers = -(-spec.batch.prompts_per_step // replicas) * spec.rollout.group_size
    # Blocks are filled by halves on average; as much again for the prefixes that are kept.
    wanted = 2 * token * answers * (longest + 128)
    return int(min(max(wanted, CPU_CACHE[0]), CPU_CACHE[1]))


def _rank_offered(rank: int) -> int:
    """vLLM offers powers of two from 8 on."""
    return max(8, 1 << (rank - 1).bit_length())


def _head_repack(model: Any) -> None:
    """On a CPU a tied output layer keeps a packed copy of the embedding that it was built with."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    head = getattr(model, "lm_head", None)
    head = getattr(head, "base_layer", head)
    if hasattr(head, "cpu_linear"):
        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def _quiet() -> None:
    """At each hand-over it would warn of modules that have no weights of their own."""
    logging.getLogger(RELOADING).setLevel(logging.ERROR)


def _worker_take(worker: Any, pid: int, descriptor: int, layout: dict[str, Any]) -> None:
    """In a worker's process: read the memory of the process that serves, and keep this worker's part."""
    _quiet()
    opened = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR)
    with Memory(Layout.from_json(layout), opened) as memory:
        worker.reload_weights(weights_iterator=memory.tensors())


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].strip()[:200]
