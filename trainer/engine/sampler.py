"""The native rollout engine: one prefill per prompt, a key-value cache repeated over its answers.

Finished answers leave the batch when fewer than three quarters are alive. Every draw has its own
counter-based number, so an answer depends neither on its neighbours nor on what was sampled before.
Log-probabilities are those of the distribution that was sampled from: temperature and kept set included.
Weights may be exchanged between two tokens: what was written so far is then read anew by the new ones, so that
each token was drawn by one policy alone, whose version is recorded.
Legend: P prompts, N answers, n answers still alive, T tokens read, t tokens drawn, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from trainer.engine.seeds import Words, uniforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.engine.policy import Policy

LIVE_SHARE = 0.75
SAMPLING_FACTOR = 8
"""A sampling chunk may hold so many times the tokens of a training micro-batch: it keeps no gradients."""


@dataclass(frozen=True)
class Sampling:
    """How to draw."""

    max_new_tokens: int
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""
    min_p: float = 0.0

    @property
    def truncates(self) -> bool:
        """Whether some tokens are never drawn."""
        return self.temperature > 0 and (self.top_p < 1 or self.top_k > 0 or self.min_p > 0)


@dataclass
class Sampled:
    """One answer as the model wrote it."""

    prompt: int
    """Index of its prompt."""
    tokens: list[int]
    """The end token included."""
    logps: list[float]
    entropies: list[float]
    """Of the distribution that was sampled from."""
    finish_reason: Literal["stop", "length"]
    log_kept: list[float]
    """Log of the mass that was kept at each token, under the distribution before truncation; 0 without:
    logps + log_kept is the log-probability of the whole, tempered distribution."""
    kept: np.ndarray | None = None
    """Packed bits (tokens, V / 8): what truncated sampling kept."""
    versions: list[int] | None = None
    """Of the policy that drew each token; None where one drew them all, the one that was asked."""


def sample(
    policy: Policy,
    prompts: list[list[int]],
    keys: Words,
    how: Sampling,
    *,
    budget: int,
    tick: Callable[[], None],
    versioned: bool = False,
) -> list[Sampled]:
    """Answers in the order of `keys` (prompts, samples), generated in chunks of at most `budget` tokens.

    `tick` is called at every token: it writes heartbeats and raises when the run is to stop. It may also
    exchange the policy's weights and raise its version; `versioned` answers tell the version at each token.
    """
    answers: list[Sampled] = []
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad(), policy.autocast():
            for first, last in _chunks(prompts, keys.shape[1], how.max_new_tokens, budget):
                found, versions = _sample_chunk(
                    policy, prompts[first:last], first, keys[first:last], how, tick
                )
                for answer in found if versioned else ():
                    answer.versions = versions[: len(answer.tokens)]
                answers += found
    finally:
        policy.model.train(was_training)
    return answers


def _chunks(
    prompts: list[list[int]], samples: int, most: int, budget: int
) -> list[tuple[int, int]]:
    chunks: list[tuple[int, int]] = []
    first, longest = 0, 0
    for index, prompt in enumerate(prompts):
        wider = max(longest, len(prompt))
        if index > first and (index + 1 - first) * samples * (wider + most) > budget:
            chunks.append((first, index))
            first, wider = index, len(prompt)
        longest = wider
    return [*chunks, (first, len(prompts))] if prompts else []


def _sample_chunk(
    policy: Policy,
    prompts: list[list[int]],
    first: int,
    keys: Words,
    how: Sampling,
    tick: Callable[[], None],
) -> tuple[list[Sampled], list[int]]:
    """The answers, and which version drew their first token, their second, and so on."""
    device, samples = policy.device, keys.shape[1]
    tick()
    version, versions = policy.version, list[int]()
    ids, mask, position = _left_padded(prompts, policy.pad_id, device)
    width = ids.shape[1]
    cache, logits = _read(policy, ids, mask, position)
    cache.batch_repeat_interleave(samples)
    logits_nV = logits.repeat_interleave(samples, 0)
    position_n = position[:, -1].repeat_interleave(samples, 0)
    mask_nT = None if mask is None else mask.repeat_interleave(samples, 0)

    total = len(prompts) * samples
    draws = torch.from_numpy(uniforms(keys.reshape(-1), how.max_new_tokens)).to(device)
    record = _Record(total, how, policy.vocabulary, device)
    eos = torch.tensor(policy.eos_ids, dtype=torch.long, device=device)
    live_n = torch.arange(total, device=device)
    for t in range(how.max_new_tokens):
        tick()
        if policy.version != version:
            version = policy.version
            rows_n = live_n // samples
            ids_nT = torch.cat([ids[rows_n], record.tokens(live_n, t)], 1)
            ahead_t = torch.arange(1, t + 1, device=device)
            told_nt = position_n[:, None] - t + ahead_t
            position_nT = torch.cat([position[rows_n], told_nt], 1)
            cache, logits_nV = _read(policy, ids_nT, mask_nT, position_nT)
        versions.append(version)
        drawn = _draw(logits_nV, draws[live_n, t], how)
        token_n = drawn.token_n
        record.add(t, live_n, drawn)
        # An answer that has ended goes on in its row until the next clearing; `record` ignores it.
        ended_n = torch.isin(token_n, eos)
        record.end(live_n[ended_n])
        alive_n = ~record.ended_N[live_n]
        alive = int(alive_n.sum())
        if alive == 0 or t + 1 == how.max_new_tokens:
            break
        if alive < LIVE_SHARE * len(live_n):
            chosen = alive_n.nonzero()[:, 0]
            cache.batch_select_indices(chosen)
            live_n, token_n, position_n = live_n[chosen], token_n[chosen], position_n[chosen]
            mask_nT = None if mask_nT is None else mask_nT[chosen]
        position_n = position_n + 1
        if mask_nT is not None:
            mask_nT = torch.cat([mask_nT, mask_nT.new_ones(len(live_n), 1)], 1)
        logits_nV = policy.model(
            input_ids=token_n[:, None],
            attention_mask=mask_nT,
            position_ids=position_n[:, None],
            past_key_values=cache,
            use_cache=True,
            cache_position=torch.tensor([width + t], device=device),
        ).logits[:, -1]
    return record.answers(samples, first), versions


def _read(
    policy: Policy, ids: torch.Tensor, mask: torch.Tensor | None, position: torch.Tensor
) -> tuple[Any, torch.Tensor]:
    """A new cache of these rows, and the logits behind each."""
    keep = {"logits_to_keep": 1} if policy.keeps_logits else {}
    output = policy.model(
        input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, **keep
    )
    return output.past_key_values, output.logits[:, -1]


def _left_padded(
    prompts: list[list[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    position = (mask.cumsum(1) - 1).clamp(min=0)
    ragged = bool((mask == 0).any())
    return ids.to(device), mask.to(device) if ragged else None, position.to(device)


@dataclass(frozen=True)
class _Drawn:
    """One token of each live answer."""

    token_n: torch.Tensor
    logp_n: torch.Tensor
    entropy_n: torch.Tensor
    log_kept_n: torch.Tensor
    kept_nV: torch.Tensor | None


def _draw(logits_nV: torch.Tensor, uniform_n: torch.Tensor, how: Sampling) -> _Drawn:
    logp_nV = (logits_nV.float() / (how.temperature or 1.0)).log_softmax(-1)
    kept_nV, log_kept_n = None, logp_nV.new_zeros(len(logp_nV))
    if how.truncates:
        kept_nV = kept_set(logp_nV, how)
        logp_nV = logp_nV.masked_fill(~kept_nV, -torch.inf)
        log_kept_n = logp_nV.logsumexp(-1)
        logp_nV = logp_nV.log_softmax(-1)
    p_nV = logp_nV.exp()
    entropy_n = -(p_nV * logp_nV.clamp(min=-1e9)).sum(-1)
    if how.temperature == 0:
        token_n = logp_nV.argmax(-1)
    else:
        # Inverse of the distribution function; float64, so that a large vocabulary keeps its tail.
        edge_nV = p_nV.double().cumsum(-1)
        point_n1 = (uniform_n * edge_nV[:, -1])[:, None]
        token_n = torch.searchsorted(edge_nV, point_n1, right=True)[:, 0]
        token_n = token_n.clamp(max=logp_nV.shape[1] - 1)
    logp_n = logp_nV.gather(1, token_n[:, None])[:, 0]
    return _Drawn(token_n, logp_n, entropy_n, log_kept_n, kept_nV)


def kept_set(logp_nV: torch.Tensor, how: Sampling) -> torch.Tensor:
    """Which tokens may be drawn, bool (n, V): top-k, then the nucleus of what is left, then min-p.

    That is the order of transformers. vLLM takes min-p before top-k and the nucleus: the sets differ only
    where min-p and a nucleus are both set. Equal values at the edge of top-k are all kept, as in both.
    """
    kept_nV = torch.ones_like(logp_nV, dtype=torch.bool)
    if 0 < how.top_k < logp_nV.shape[1]:
        edge_n1 = logp_nV.topk(how.top_k, dim=-1).values[:, -1:]
        kept_nV = logp_nV >= edge_n1
    if how.top_p < 1:
        left_nV = logp_nV.masked_fill(~kept_nV, -torch.inf).log_softmax(-1)
        kept_nV = kept_nV & _nucleus(left_nV, how.top_p)
    if how.min_p > 0:
        # Relative to the likeliest token, so that it does not matter what was left out before.
        best_n1 = logp_nV.max(-1, keepdim=True).values
        kept_nV = kept_nV & ((logp_nV - best_n1).exp() >= how.min_p)
    return kept_nV


def _nucleus(logp_nV: torch.Tensor, top_p: float) -> torch.Tensor:
    """The likeliest tokens that together reach the mass, the one that crosses it included."""
    sorted_nV, order_nV = logp_nV.sort(dim=-1, descending=True, stable=True)
    p_nV = sorted_nV.exp()
    kept_sorted_nV = p_nV.cumsum(-1) - p_nV < top_p
    kept_sorted_nV[:, 0] = True
    return torch.zeros_like(kept_sorted_nV).scatter(1, order_nV, kept_sorted_nV)


class _Record:
    """What was drawn so far, by answer and position."""

    def __init__(self, total: int, how: Sampling, vocabulary: int, device: torch.device) -> None:
        shape = (total, how.max_new_tokens)
        self._token = torch.zeros(shape, dtype=torch.long, device=device)
        self._logp = torch.zeros(shape, device=device)
        self._entropy = torch.zeros(shape, device=device)
        self._log_kept = torch.zeros(shape, device=device)
        self._length = torch.zeros(total, dtype=torch.long, device=device)
        self.ended_N = torch.zeros(total, dtype=torch.bool, device=device)
        self._kept: np.ndarray | None = None
        if how.truncates:
            self._kept = np.zeros((*shape, (vocabulary + 7) // 8), dtype=np.uint8)

    def add(self, t: int, live_n: torch.Tensor, drawn: _Drawn) -> None:
        going_n = ~self.ended_N[live_n]
        at = live_n[going_n]
        self._token[at, t] = drawn.token_n[going_n]
        self._logp[at, t] = drawn.logp_n[going_n]
        self._entropy[at, t] = drawn.entropy_n[going_n]
        self._log_kept[at, t] = drawn.log_kept_n[going_n]
        self._length[at] += 1
        if self._kept is not None and drawn.kept_nV is not None:
            bits = np.packbits(drawn.kept_nV[going_n].cpu().numpy(), axis=1)
            self._kept[at.cpu().numpy(), t] = bits

    def tokens(self, answers: torch.Tensor, count: int) -> torch.Tensor:
        """The first tokens of these answers; behind an end stands token 0."""
        return self._token[answers, :count]

    def end(self, answers: torch.Tensor) -> None:
        self.ended_N[answers] = True

    def answers(self, samples: int, first: int) -> list[Sampled]:
        tokens, logps, entropies = self._token.tolist(), self._logp.tolist(), self._entropy.tolist()
        log_kept = self._log_kept.tolist()
        ended = self.ended_N.tolist()
        return [
            Sampled(
                prompt=first + i // samples,
                tokens=tokens[i][:length],
                logps=logps[i][:length],
                entropies=entropies[i][:length],
                finish_reason="stop" if ended[i] else "length",
                log_kept=log_kept[i][:length],
                kept=None if self._kept is None else self._kept[i, :length],
            )
            for i, length in enumerate(self._length.tolist())
        ]
