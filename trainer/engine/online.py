"""Learning from rollouts: sample, score, compare within groups, update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.engine.batches import Rollouts
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.sampler import Sampling, sample
from trainer.engine.scoring import score, spread
from trainer.engine.seeds import sample_keys
from trainer.methods import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.sampler import Sampled
    from trainer.engine.scoring import Scored
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec

SAMPLING_FACTOR = 8
"""A sampling chunk may hold so many times the tokens of a training micro-batch: it keeps no gradients."""


@dataclass
class Buffer:
    """One batch of rollouts, in the form that training and checkpoints need."""

    sequences: Sequences
    old_logp_NA: torch.Tensor
    advantage_N: torch.Tensor
    group_N: torch.Tensor
    visited: list[int]
    """The cursor behind this batch."""

    @property
    def mask_NA(self) -> torch.Tensor:
        """Which cells hold answer tokens."""
        lengths = torch.tensor([len(answer) for answer in self.sequences.answers])
        return torch.arange(self.old_logp_NA.shape[1])[None, :] < lengths[:, None]


class OnlineLearner:
    """Samples when a new batch is due, and gives the losses of each update on it."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        self.session, self.spec, self.policy = session, spec, policy
        self.reference, self.cursor = reference, cursor
        self.updates = spec.batch.updates_per_rollout
        self.buffer: Buffer | None = None

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Sample and score a new batch when one is due; returns what it measured."""
        if state.updates_done:
            assert self.buffer is not None
            return {}
        clock, spec, step = self.session.clock, self.spec, state.step + 1
        with clock.part("data"):
            examples, visited = self.cursor.take(state.visited, spec.batch.prompts_per_step)
        with clock.part("rollout"):
            rollout = spec.rollout
            keys = sample_keys(
                spec.seed, "train", step, list(range(len(examples))), rollout.group_size
            )
            sampled = sample(
                self.policy,
                [example.prompt for example in examples],
                keys,
                Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p),
                budget=SAMPLING_FACTOR * spec.batch.tokens_per_microbatch,
                tick=self.session.tick,
            )
        with clock.part("reward"):
            scored = score(self.policy, spec.rewards, examples, sampled, self.session.tick)
            self.buffer = self._buffer(examples, sampled, scored, visited)
        values = rollout_metrics(sampled, scored, self.buffer)
        tokens = sum(len(item.tokens) for item in sampled)
        values["tokens/rollout_per_s"] = tokens / max(clock.spent("rollout"), 1e-9)
        if self.session.report.wants_samples():
            self.session.report.write_samples(
                samples_of(step, examples, sampled, scored, self.buffer.advantage_N.tolist())
            )
        return values

    def _buffer(
        self,
        examples: list[Example],
        sampled: list[Sampled],
        scored: Scored,
        visited: list[int],
    ) -> Buffer:
        assert self.spec.advantage is not None
        answers = [item.tokens for item in sampled]
        groups = [item.prompt for item in sampled]
        kept = [item.kept for item in sampled if item.kept is not None] or None
        sequences = Sequences([example.prompt for example in examples], answers, groups, kept)
        old_logp_NA = torch.zeros(len(answers), max(len(answer) for answer in answers))
        for row, item in enumerate(sampled):
            old_logp_NA[row, : len(item.logps)] = torch.tensor(item.logps)
        group_N = torch.tensor(groups)
        rewards_N = torch.tensor(scored.totals, dtype=torch.float32)
        lengths = torch.tensor([len(answer) for answer in answers])
        mask_NA = torch.arange(old_logp_NA.shape[1])[None, :] < lengths[:, None]
        outcomes = Outcomes(rewards_N, group_N, mask_NA)
        advantage_N = self.spec.advantage.advantages(outcomes).float()
        return Buffer(sequences, old_logp_NA, advantage_N, group_N, visited)

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches of one update; means collect what they measured."""
        buffer, objective = self.buffer, self.spec.objective
        assert buffer is not None
        first = state.updates_done == 0
        whole = self._slice(buffer, torch.arange(len(buffer.group_N)))
        weight_NA = objective.token_weights(whole)
        term_NA = objective.term_weights(whole)
        silent_N = buffer.advantage_N == 0
        if not objective.silent_without_advantage:
            silent_N = torch.zeros_like(silent_N)
        lengths_N = buffer.mask_NA.sum(-1)
        means.add(
            "groups/skipped_tokens_frac",
            float(lengths_N[silent_N].sum()),
            float(lengths_N.sum()),
        )
        if bool(silent_N.any()):
            # Without a forward pass they still count in every denominator; their ratio is taken as 1.
            batch = self._slice(buffer, silent_N.nonzero()[:, 0], weight_NA, term_NA)
            batch.logp_BT = batch.old_logp_BT
            yield objective.loss(batch)
        wanted = (~silent_N).nonzero()[:, 0].tolist()
        ratios = _Ratios(float(lengths_N[silent_N].sum()))
        plan = micro_batches(
            buffer.sequences,
            wanted,
            budget=self.spec.batch.tokens_per_microbatch,
            shared=self.policy.shared_prefix,
        )
        for rows in plan:
            self.session.tick()
            chosen = [answer for row in rows for answer in row.answers]
            batch = self._slice(buffer, torch.tensor(chosen), weight_NA, term_NA)
            temperature = self.spec.rollout.temperature
            if "reference" in objective.uses:
                with self.session.clock.part("logprob"):
                    batch.ref_logp_BT = self._fit(
                        self.reference.token_logps(buffer.sequences, chosen, rows, temperature),
                        batch,
                    )
            scores = token_scores(
                self.policy, buffer.sequences, chosen, rows=rows, temperature=temperature
            )
            logp, entropy, _ = scores.padded()
            batch.logp_BT, batch.entropy_BT = self._fit(logp, batch), self._fit(entropy, batch)
            ratios.add(batch.logp_BT.detach(), batch.old_logp_BT, batch.mask_BT)
            yield objective.loss(batch)
        ratios.report(means, first)

    def _slice(
        self,
        buffer: Buffer,
        index: torch.Tensor,
        weight_NA: torch.Tensor | None = None,
        term_NA: Mapping[str, torch.Tensor] | None = None,
    ) -> Rollouts:
        device, width = self.policy.device, buffer.old_logp_NA.shape[1]
        return Rollouts(
            mask_BT=buffer.mask_NA[index].to(device),
            old_logp_BT=buffer.old_logp_NA[index].to(device),
            advantage_BT=buffer.advantage_N[index, None].expand(len(index), width).to(device),
            group_B=buffer.group_N[index].to(device),
            max_new_tokens=self.spec.rollout.max_new_tokens,
            tokens=float(buffer.mask_NA.sum()),
            weight_BT=None if weight_NA is None else weight_NA[index.to(weight_NA.device)],
            term_weight_BT={k: v[index.to(v.device)] for k, v in (term_NA or {}).items()},
        )

    @staticmethod
    def _fit(values_BA: torch.Tensor, batch: Rollouts) -> torch.Tensor:
        """Pad to the width of the whole batch."""
        missing = batch.mask_BT.shape[1] - values_BA.shape[1]
        return torch.nn.functional.pad(values_BA, (0, missing)) if missing else values_BA

    def commit(self, state: State) -> int:
        """Move the state behind one update; returns the tokens that were processed for it."""
        assert self.buffer is not None
        state.updates_done = (state.updates_done + 1) % self.updates
        # The cursor stays before the batch until its last update: a resumed run finds the batch saved.
        if state.updates_done == 0:
            state.visited = self.buffer.visited
        sequences = self.buffer.sequences
        tokens = sum(len(sequences.prompts[p]) for p in sequences.prompt_of)
        return tokens + self.answer_tokens()

    def answer_tokens(self) -> int:
        """Answer tokens of the batch in hand."""
        assert self.buffer is not None
        return sum(len(answer) for answer in self.buffer.sequences.answers)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """The batch in hand, when updates on it remain."""
        if not state.updates_done or self.buffer is None:
            return {}
        sequences = self.buffer.sequences
        saved = {
            "prompt_tokens": torch.tensor([t for ids in sequences.prompts for t in ids]),
            "prompt_lengths": torch.tensor([len(ids) for ids in sequences.prompts]),
            "answer_tokens": torch.tensor([t for ids in sequences.answers for t in ids]),
            "answer_lengths": torch.tensor([len(ids) for ids in sequences.answers]),
            "prompt_of": torch.tensor(sequences.prompt_of),
            "old_logp": self.buffer.old_logp_NA,
            "advantage": self.buffer.advantage_N,
            "visited": torch.tensor(self.buffer.visited),
        }
        if sequences.kept is not None:
            saved["kept"] = torch.from_numpy(np.concatenate(sequences.kept))
        return saved

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the batch that `tensors` saved."""
        if not tensors:
            return
        answers = _split(tensors["answer_tokens"], tensors["answer_lengths"])
        kept = None
        if "kept" in tensors:
            ends = np.cumsum([len(answer) for answer in answers])[:-1]
            kept = np.split(tensors["kept"].numpy(), ends)
        prompts = _split(tensors["prompt_tokens"], tensors["prompt_lengths"])
        self.buffer = Buffer(
            Sequences(prompts, answers, tensors["prompt_of"].tolist(), kept),
            tensors["old_logp"],
            tensors["advantage"],
            tensors["prompt_of"],
            tensors["visited"].tolist(),
        )


def _split(flat: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    return [piece.tolist() for piece in flat.split(lengths.tolist())]


class _Ratios:
    """Sampler against trainer, and the effective sample size of the token ratios."""

    def __init__(self, ones: float) -> None:
        self._count = self._sum = self._squares = ones
        self._gap = self._gap_count = self._worst = 0.0

    def add(self, logp_BT: torch.Tensor, old_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        difference = (logp_BT - old_BT)[mask_BT]
        if not len(difference):
            return
        ratio = difference.double().exp()
        self._count += len(difference)
        self._sum += float(ratio.sum())
        self._squares += float((ratio**2).sum())
        self._gap += float(difference.abs().sum())
        self._gap_count += len(difference)
        self._worst = max(self._worst, float(difference.abs().max()))

    def report(self, means: Means, first: bool) -> None:
        if self._count and self._squares:
            means.add("ess", self._sum**2 / self._squares, self._count)
        if first and self._gap_count:
            means.add("rollout/logp_diff_mean", self._gap, self._gap_count)
            means.highest("rollout/logp_diff_max", self._worst)


def rollout_metrics(sampled: list[Sampled], scored: Scored, buffer: Buffer) -> dict[str, float]:
    """TRL's metrics of a batch of rollouts."""
    lengths = [len(item.tokens) for item in sampled]
    ended = [len(item.tokens) for item in sampled if item.finish_reason == "stop"]
    values: dict[str, float] = {
        "completions/mean_length": sum(lengths) / len(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 - len(ended) / len(sampled),
        "entropy": sum(sum(item.entropies) for item in sampled) / sum(lengths),
    }
    if ended:
        values["completions/mean_terminated_length"] = sum(ended) / len(ended)
        values["completions/min_terminated_length"] = min(ended)
        values["completions/max_terminated_length"] = max(ended)
    for name, scores in scored.parts.items():
        known = [value for value in scores if value is not None]
        if known:
            values[f"rewards/{name}/mean"] = sum(known) / len(known)
            values[f"rewards/{name}/std"] = spread(known)
        if len(known) < len(scores):
            values[f"rewards/{name}/none_frac"] = 1 - len(known) / len(scores)
    known_totals = [value for value in scored.totals if not math.isnan(value)]
    if known_totals:
        values["reward"] = sum(known_totals) / len(known_totals)
    return values | _group_metrics(scored, buffer)


def _group_metrics(scored: Scored, buffer: Buffer) -> dict[str, float]:
    rewards: dict[int, list[float]] = {}
    audible: dict[int, bool] = {}
    advantages = buffer.advantage_N.tolist()
    for index, group in enumerate(buffer.sequences.prompt_of):
        known = rewards.setdefault(group, [])
        if not math.isnan(scored.totals[index]):
            known.append(scored.totals[index])
        audible[group] = audible.get(group, False) or advantages[index] != 0
    spreads = [spread(values) for values in rewards.values() if len(values) > 1]
    flat = [len(set(values)) <= 1 for values in rewards.values()]
    found = {
        "frac_reward_zero_std": sum(flat) / len(flat),
        "groups/zero_adv_frac": 1 - sum(audible.values()) / len(audible),
    }
    if spreads:
        found["reward_std"] = sum(spreads) / len(spreads)
    return found


def samples_of(
    step: int,
    examples: list[Example],
    sampled: list[Sampled],
    scored: Scored,
    advantages: list[float],
    groups: int = 4,
) -> Iterator[dict[str, Any]]:
    """The journal's sample events of the first groups."""
    for index, item in enumerate(sampled):
        if item.prompt >= groups:
            break
        example = examples[item.prompt]
        yield {
            "step": step,
            "prompt_id": example.id,
            "group": item.prompt,
            "prompt": example.text,
            "completion": scored.texts[index],
            "token_ids": item.tokens,
            "logps": [round(value, 6) for value in item.logps],
            "finish_reason": item.finish_reason,
            "reward": scored.totals[index] if scored.totals else None,
            "rewards": {name: scores[index] for name, scores in scored.parts.items()},
            "advantage": advantages[index],
        }
