"""vLLM in the trainer's process: continuous batching, prefix caching, weights handed over in memory.

The engine is built without weights and is given the policy's: each tensor once, tied ones once, in the
precision that sampling uses. A LoRA adapter is handed over as an adapter beside its base. After each
hand-over the engine's log-probabilities of a probe are compared with the trainer's own.
Every answer has a seed of its own, and log-probabilities are those of the distribution that was drawn
from (`processed_logprobs`), temperature and kept set included.
Legend: P prompts, S samples of each, V vocabulary, T tokens.
"""

# vLLM is imported where it is used: whoever samples natively need not have it.
# ruff: noqa: PLC0415

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.engine import randomness
from trainer.engine.adapted import adapter_weights, adapter_write, is_adapted
from trainer.engine.failure import Failure
from trainer.engine.sampler import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampling
    from trainer.engine.seeds import Words
    from trainer.spec import RunSpec

PROBE_TOKENS = 64
TOLERANCE = {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.15}
"""Mean difference of log-probabilities, nats: what two implementations in that precision may differ by."""
KEPT_VOCABULARY = 32_768
"""Up to this many tokens vLLM is asked for the whole distribution, to learn what truncation kept."""
CPU_CACHE = (64 << 20, 2 << 30)
"""Bytes of the key-value cache on a CPU: at least, at most."""
RELOADING = "vllm.model_executor.model_loader.reload.layerwise"
SEED_BITS = np.uint64(0x7FFFFFFFFFFFFFFF)
SETTINGS = {
    # In this process: weights are handed over in memory, and no other process is left behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",
}


class VllmGenerator:
    """Samples with vLLM from a copy of the policy's weights."""

    name = "vllm"
    holds_copy = True
    tells_entropy = False

    def __init__(self, spec: RunSpec, policy: Policy, probe: list[int]) -> None:
        """Build the engine. Raises ValueError with the field and what to change."""
        self.policy = policy
        self.dtype = str(policy.dtype).removeprefix("torch.")
        self.longest = _longest(spec, policy)
        self._probe = probe[:PROBE_TOKENS]
        self._synced: int | None = None
        self._adapters = count(1)
        self._adapter: Any = None
        self._requests = count()
        self._folder = tempfile.TemporaryDirectory(prefix="anneal-vllm-")
        _refuse(spec, policy)
        with randomness.kept(), _explained():
            self._llm = self._build(spec)
            if is_adapted(policy.model):
                self._push(_base_weights(policy.model))
            # Some of what it cannot do shows at its first work only.
            self.sync()

    # --- the engine ------------------------------------------------------------------------------

    def _build(self, spec: RunSpec) -> Any:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from vllm import LLM

        # At each hand-over it would warn of modules that have no weights of their own.
        logging.getLogger(RELOADING).setLevel(logging.ERROR)
        config = self.policy.model.config
        config.save_pretrained(self._folder.name)
        options: dict[str, Any] = {}
        if self.policy.device.type == "cpu":
            options |= {"kv_cache_memory_bytes": _cache_bytes(spec, config, self.longest)}
            options |= {"enforce_eager": True}
        else:
            options |= {"gpu_memory_utilization": spec.rollout.memory_share}
        if is_adapted(self.policy.model):
            rank = max(adapter.r for adapter in self.policy.model.peft_config.values())
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank_offered(rank)}
        return LLM(
            model=self._folder.name,
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype=self.dtype,
            max_model_len=self.longest,
            max_logprobs=-1,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
            disable_log_stats=True,
            seed=0,
            **options,
        )

    def close(self) -> None:
        """Remove its files; the process's end gives back the memory."""
        self._folder.cleanup()

    # --- weights ---------------------------------------------------------------------------------

    def sync(self) -> None:
        """Hand the weights over if they have moved since the last time, and compare with the trainer's."""
        if self._synced == self.policy.version:
            return
        if is_adapted(self.policy.model):
            self._adapter_push()
        else:
            self._push(self.policy.model.named_parameters())
        self._check()
        self._synced = self.policy.version

    def _push(self, named: Any) -> None:
        dtype = self.policy.dtype
        weights = ((name, weight.detach().to(dtype)) for name, weight in named)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self.policy.device.type == "cpu":
            self._llm.apply_model(_head_repack)
        # What it kept of prompts was computed by the old weights.
        self._llm.reset_prefix_cache()

    def _adapter_push(self) -> None:
        """Write the adapter where vLLM reads it, under an id that was never used: a known id is not read again."""
        from vllm.lora.request import LoRARequest

        number = next(self._adapters)
        folder = Path(self._folder.name) / f"adapter-{number}"
        folder.mkdir()
        model = self.policy.model
        adapter_write(folder, model, adapter_weights(model), self._folder.name)
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapter = LoRARequest(f"policy-{number}", number, str(folder))
        self._llm.llm_engine.add_lora(self._adapter)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        self._llm.reset_prefix_cache()

    def _check(self) -> None:
        """Compare what both say about the probe. Raises Failure when they differ by more than precision."""
        difference = self.difference()
        if not difference < TOLERANCE.get(self.dtype, TOLERANCE["bfloat16"]):
            raise Failure(
                "weight-sync",
                "rollout.engine: after the weights were handed over, vLLM and the trainer differ by "
                f"{difference:.3g} nats a token on the same prompt ({self.dtype}); samples would not be "
                "the policy's. Use native, or report this model.",
            )

    def difference(self) -> float:
        """Mean absolute difference of the probe's log-probabilities, nats a token; NaN counts as inf."""
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=1, prompt_logprobs=0, detokenize=False)
        prompt = {"prompt_token_ids": self._probe}
        with randomness.kept():
            found = self._llm.generate(
                [prompt], params, use_tqdm=False, lora_request=self._adapter
            )[0]
        theirs_T = [next(iter(each.values())).logprob for each in found.prompt_logprobs[1:]]
        ids_1T = torch.tensor([self._probe], device=self.policy.device)
        was_training = self.policy.model.training
        self.policy.model.eval()
        try:
            with torch.no_grad(), self.policy.autocast():
                logits_TV = self.policy.model(input_ids=ids_1T, use_cache=False).logits[0, :-1]
        finally:
            self.policy.model.train(was_training)
        logp_TV = logits_TV.float().log_softmax(-1)
        ours_T = logp_TV.gather(1, ids_1T[0, 1:, None])[:, 0].cpu()
        gap = float((ours_T - torch.tensor(theirs_T)).abs().mean())
        return gap if math.isfinite(gap) else math.inf

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
        if how.truncates and self.policy.vocabulary > KEPT_VOCABULARY:
            raise Failure("bad-input", _no_truncation(self.policy.vocabulary))
        engine = self._llm.llm_engine
        samples = keys.shape[1]
        place: dict[str, int] = {}
        for number in range(len(prompts) * samples):
            prompt, sample = divmod(number, samples)
            name = str(next(self._requests))
            place[name] = number
            engine.add_request(
                name,
                {"prompt_token_ids": prompts[prompt]},
                self._params(how, int(keys[prompt, sample] & SEED_BITS)),
                lora_request=self._adapter,
            )
        found: dict[int, Any] = {}
        try:
            with randomness.kept():
                while engine.has_unfinished_requests():
                    tick()
                    for output in engine.step():
                        if output.finished:
                            found[place.pop(output.request_id)] = output.outputs[0]
        finally:
            # Left early: somebody wants the run to end, and may want it to go on sampling at its end.
            if place:
                engine.abort_request(list(place))
        return [
            self._sampled(found[number], number // samples, how)
            for number in range(len(prompts) * samples)
        ]

    def _params(self, how: Sampling, seed: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            min_p=how.min_p,
            seed=seed if how.temperature else None,
            max_tokens=how.max_new_tokens,
            stop_token_ids=list(self.policy.eos_ids),
            # The end tokens are the policy's; vLLM would add those of the model's own configuration.
            ignore_eos=True,
            logprobs=-1 if how.truncates else 0,
            detokenize=False,
        )

    def _sampled(self, output: Any, prompt: int, how: Sampling) -> Sampled:
        tokens = list(output.token_ids)
        logps = [each[token].logprob for each, token in zip(output.logprobs, tokens, strict=True)]
        kept = None
        if how.truncates:
            kept_TV = np.zeros((len(tokens), self.policy.vocabulary), dtype=bool)
            for row, each in enumerate(output.logprobs):
                kept_TV[row, [t for t, told in each.items() if told.logprob > -math.inf]] = True
            kept = np.packbits(kept_TV, axis=1)
        unknown = [math.nan] * len(tokens)
        return Sampled(
            prompt=prompt,
            tokens=tokens,
            logps=logps,
            entropies=unknown,
            finish_reason="stop" if output.finish_reason == "stop" else "length",
            log_kept=unknown if how.truncates else [0.0] * len(tokens),
            kept=kept,
        )


@contextmanager
def _explained() -> Iterator[None]:
    """What vLLM cannot do with a model becomes a sentence with the field; a full memory stays one."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error).lower():
            raise
        raise ValueError(
            f"rollout.engine: vLLM cannot run this model ({_last_line(error)}); use native"
        ) from error


def _refuse(spec: RunSpec, policy: Policy) -> None:
    how = spec.rollout
    truncates = how.top_p < 1 or how.top_k > 0 or how.min_p > 0
    if truncates and policy.vocabulary > KEPT_VOCABULARY:
        raise ValueError(_no_truncation(policy.vocabulary))


def _no_truncation(vocabulary: int) -> str:
    return (
        "rollout.engine: with top_p, top_k or min_p the trainer must know which tokens were kept, which vLLM "
        f"tells only for vocabularies of up to {KEPT_VOCABULARY} tokens (this one has {vocabulary}); "
        "keep all tokens (top_p = 1, top_k = 0, min_p = 0), or use native"
    )


def _longest(spec: RunSpec, policy: Policy) -> int:
    """Tokens of the longest prompt with its answer, in training or evaluation."""
    answer = max(spec.rollout.max_new_tokens, spec.evaluation.max_new_tokens or 0)
    wanted = spec.data.max_prompt_tokens + answer
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", wanted)
    return min(wanted, int(limit or wanted))


def _cache_bytes(spec: RunSpec, config: Any, longest: int) -> int:
    """Room for all answers of a step at once, within bounds."""
    shape = config.get_text_config()
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    token = 2 * shape.num_hidden_layers * heads * width * 4
    answers = spec.batch.prompts_per_step * spec.rollout.group_size
    # Blocks are filled by halves on average; as much again for the prefixes that are kept.
    wanted = 2 * token * answers * (longest + 128)
    return int(min(max(wanted, CPU_CACHE[0]), CPU_CACHE[1]))


def _rank_offered(rank: int) -> int:
    """vLLM offers powers of two from 8 on."""
    return max(8, 1 << (rank - 1).bit_length())


def _base_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights below an adapter, by the names that they have without it."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            continue
        yield name.replace(".base_layer.", "."), parameter


def _head_repack(model: Any) -> None:
    """On a CPU a tied output layer keeps a packed copy of the embedding that it was built with."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    head = getattr(model, "lm_head", None)
    head = getattr(head, "base_layer", head)
    if hasattr(head, "cpu_linear"):
        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].strip()[:200]
