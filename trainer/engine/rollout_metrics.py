"""What a batch of rollouts tells: TRL's metrics, the samples journal, sampler against trainer.

Legend: N answers of the rollout batch, A answer tokens, M the tokens that there are, in one row; B answers of a
micro-batch, T their tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trainer.engine.scoring import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from trainer.engine.buffer import Buffer
    from trainer.engine.dataset import Example
    from trainer.engine.means import Means
    from trainer.engine.ranks import Ranks
    from trainer.engine.sampler import Sampled
    from trainer.engine.scoring import Scored

SAMPLE_GROUPS = 4
"""Groups whose answers are written to the samples journal."""


def rollout_metrics(
    sampled: Sequence[Sampled], scored: Scored, buffer: Buffer, greedy: Scored | None
) -> dict[str, float]:
    """Lengths, endings, entropy and rewards of a rollout batch."""
    lengths = [len(item.tokens) for item in sampled]
    ended = [len(item.tokens) for item in sampled if item.finish_reason == "stop"]
    values: dict[str, float] = {
        "completions/mean_length": sum(lengths) / len(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 - len(ended) / len(sampled),
    }
    entropy = sum(sum(item.entropies) for item in sampled) / sum(lengths)
    if not math.isnan(entropy):
        # An engine that does not tell it leaves it to the first update.
        values["entropy"] = entropy
    if ended:
        values["completions/mean_terminated_length"] = sum(ended) / len(ended)
        values["completions/min_terminated_length"] = min(ended)
        values["completions/max_terminated_length"] = max(ended)
    if buffer.sequences.kept is not None:
        mass = sum(math.exp(value) for item in sampled for value in item.log_kept)
        if not math.isnan(mass):
            values["rollout/kept_mass"] = mass / sum(lengths)
    for name, scores in scored.parts.items():
        known = [value for value in scores if value is not None]
        if known:
            values[f"rewards/{name}/mean"] = sum(known) / len(known)
            values[f"rewards/{name}/std"] = spread(known)
        if len(known) < len(scores):
            values[f"rewards/{name}/none_frac"] = 1 - len(known) / len(scores)
    for key, totals in (("reward", scored.totals), ("reward_greedy", greedy and greedy.totals)):
        known = [value for value in totals or () if not math.isnan(value)]
        if known:
            values[key] = sum(known) / len(known)
    return values | _group_metrics(scored, buffer) | _critic_metrics(buffer)


def ahead_metrics(
    buffer: Buffer, asked: int, before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, float]:
    """Of a batch that was drawn ahead: how old it is, and what the generator did since the last one.

    `asked` are the batches behind it that were asked for; `before` and `after` the generator's counters
    (`RemoteGenerator.stats`) at the last batch and now.
    """
    values = {
        "sample/rollout_queue_size": asked - after["depth"],
        "generator/waiting": after["answers"],
    }
    if buffer.age_N is not None:
        values["sample/staleness_mean"] = float(buffer.age_N.double().mean())
        values["sample/staleness_max"] = float(buffer.age_N.max())
    spent = {name: after[name] - before.get(name, 0.0) for name in ("busy_s", "idle_s", "sync_s")}
    total = sum(spent.values())
    if total > 0:
        values["generator/busy_frac"] = spent["busy_s"] / total
        values["generator/idle_frac"] = spent["idle_s"] / total
        values["generator/sync_frac"] = spent["sync_s"] / total
    if spent["busy_s"] > 0:
        tokens = after["tokens"] - before.get("tokens", 0.0)
        values["tokens/rollout_per_s"] = tokens / spent["busy_s"]
    return values


def _group_metrics(scored: Scored, buffer: Buffer) -> dict[str, float]:
    rewards: dict[int, list[float]] = {}
    audible: dict[int, bool] = {}
    heard = (buffer.mask_NA & (buffer.advantage_NA != 0)).any(-1).tolist()
    for index, group in enumerate(buffer.sequences.prompt_of):
        known = rewards.setdefault(group, [])
        if not math.isnan(scored.totals[index]):
            known.append(scored.totals[index])
        audible[group] = audible.get(group, False) or heard[index]
    spreads = [spread(values) for values in rewards.values() if len(values) > 1]
    flat = [len(set(values)) <= 1 for values in rewards.values()]
    found = {
        "frac_reward_zero_std": sum(flat) / len(flat),
        "groups/zero_adv_frac": 1 - sum(audible.values()) / len(audible),
    }
    if spreads:
        found["reward_std"] = sum(spreads) / len(spreads)
    return found


def _critic_metrics(buffer: Buffer) -> dict[str, float]:
    """How well the critic foresaw, before it learns from this batch."""
    if buffer.value_NA is None or buffer.return_NA is None:
        return {}
    value_M = buffer.value_NA[buffer.mask_NA].double()
    return_M = buffer.return_NA[buffer.mask_NA].double()
    found = {
        "critic/values/mean": float(value_M.mean()),
        "critic/returns/mean": float(return_M.mean()),
    }
    variance = float(return_M.var(unbiased=False))
    if variance > 0:
        missed = float((return_M - value_M).var(unbiased=False))
        found["critic/vf_explained_var"] = 1 - missed / variance
    return found


def samples_of(
    step: int,
    examples: Sequence[Example],
    sampled: Sequence[Sampled],
    scored: Scored,
    advantages: Sequence[float],
    versions: Sequence[int],
    groups: int = SAMPLE_GROUPS,
) -> Iterator[dict[str, Any]]:
    """The journal's sample events of the first groups; `versions` are optimizer steps."""
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
            "policy_version": versions[index],
        }


class Ratios:
    """The effective sample size of the token ratios of one update.

    Tokens that went without a forward pass have no ratio that anybody knows, and are not counted.
    """

    def __init__(self) -> None:
        self._count = self._sum = self._squares = 0.0

    def add(self, logp_BT: torch.Tensor, old_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        """The tokens of a micro-batch."""
        difference = (logp_BT - old_BT)[mask_BT]
        if not len(difference):
            return
        ratio = difference.double().exp()
        self._count += len(difference)
        self._sum += float(ratio.sum())
        self._squares += float((ratio**2).sum())

    def over(self, ranks: Ranks) -> None:
        """Join with what the other ranks have seen: the effective sample size is no mean of theirs."""
        if ranks.alone:
            return
        mine = [self._count, self._sum, self._squares]
        columns = zip(*(note for _, note in ranks.gather({}, mine)), strict=True)
        self._count, self._sum, self._squares = (sum(column) for column in columns)

    def report(self, means: Means) -> None:
        """Nothing where no token was forwarded."""
        if self._count and self._squares:
            means.add("ess", self._sum**2 / self._squares, self._count)
