"""Measuring on held-out rows. The same seeds every time, so that two evaluations are paired.

Nothing here touches what training depends on: no random state, no cursor, no gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from trainer.engine.demonstrations import demonstration_losses
from trainer.engine.labels import LabelLearner, label_losses
from trainer.engine.means import Means
from trainer.engine.pairs import PairLearner, pair_losses
from trainer.engine.rankings import ranking_values
from trainer.engine.reference_scores import ReferenceScores
from trainer.engine.rollout_metrics import samples_of
from trainer.engine.sampler import SAMPLING_FACTOR, Sampling
from trainer.engine.scoring import score
from trainer.engine.seeds import sample_keys
from trainer.engine.sharding import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from trainer.engine.dataset import Example, Part
    from trainer.engine.loop import Learner
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.methods import Loss
    from trainer.spec import RunSpec

SLICE = 256
"""Held-out rows that are worked on at once. A loss that couples its rows sees a slice as its batch."""
MARGINS = {"loss": "loss", "rewards/margins": "margins"}


class Evaluation:
    """The held-out rows of a run, and what the reference says about them."""

    def __init__(
        self,
        session: Session,
        spec: RunSpec,
        policy: Policy,
        parts: Sequence[Part],
        learner: Learner | None,
    ) -> None:
        self.session, self.spec, self.policy, self.parts = session, spec, policy, parts
        self.learner = learner
        self._known = ReferenceScores({} if learner is None else learner.reference.memory())

    @property
    def measures_something(self) -> bool:
        """Whether there is anything to evaluate."""
        return bool(self.parts)

    def values(self, step: int) -> dict[str, float]:
        """`eval/SOURCE/...` of every source, and `eval/...`: the mean by the sources' weights."""
        with torch.no_grad(), whole(self.policy, self.session.ranks):
            found = by_weight(self.parts, lambda part: self._of_part(part, step))
        self.policy.generator.rest()
        return found

    def _of_part(self, part: Part, step: int) -> dict[str, float]:
        values: dict[str, float] = {}
        learns_from = self.spec.objective.learns_from
        if self.spec.kind != "train":
            pass
        elif "score-head" in self.spec.objective.uses:
            values |= self._rankings(part.examples)
        elif learns_from == "demonstrations":
            values |= self._demonstrations(part.examples)
        elif learns_from == "pairs":
            values |= self._pairs(part.examples)
        elif learns_from == "labels":
            values |= self._labels(part.examples)
        if self.spec.rewards:
            values |= self._sampled(part, step)
        return values

    def _rankings(self, examples: Sequence[Example]) -> dict[str, float]:
        spec = self.spec
        return ranking_values(self.policy, spec.objective, examples, spec.batch, self.session.tick)

    def _demonstrations(self, examples: Sequence[Example]) -> dict[str, float]:
        means = Means()
        for piece in _slices(examples):
            tokens = float(sum(example.trained_tokens for example in piece))
            losses = demonstration_losses(
                self.policy,
                self.spec.objective,
                piece,
                self.spec.batch,
                means,
                self.session.tick,
            )
            for loss in losses:
                # Each slice is normalised by its own tokens; weigh it back.
                means.add("loss", float(loss.value) * tokens, 0)
                means.add_loss(loss)
            means.add("loss", 0.0, tokens)
        values = means.values()
        return {key: values[key] for key in ("loss", "mean_token_accuracy") if key in values}

    def _pairs(self, examples: Sequence[Example]) -> dict[str, float]:
        assert isinstance(self.learner, PairLearner)
        means = Means()
        for piece in _slices(examples):
            _add_losses(means, pair_losses(self.learner, piece, self._known), len(piece))
        return _renamed(means, {**MARGINS, "rewards/accuracies": "pair_accuracy"})

    def _labels(self, examples: Sequence[Example]) -> dict[str, float]:
        assert isinstance(self.learner, LabelLearner)
        means = Means()
        for piece in _slices(examples):
            _add_losses(means, label_losses(self.learner, piece, self._known), len(piece))
        return _renamed(means, {**MARGINS, "label_accuracy": "label_accuracy"})

    def _sampled(self, part: Part, step: int) -> dict[str, float]:
        spec, means, ranks = self.spec, Means(), self.session.ranks
        per_prompt = spec.evaluation.samples_per_prompt
        how = sampling_at(spec)
        for first in range(0, len(part.examples), SLICE):
            # Each rank samples and scores its part of a slice.
            mine = ranks.share(len(part.examples[first : first + SLICE]))
            numbers = [first + index for index in mine]
            piece = [part.examples[number] for number in numbers]
            keys = sample_keys(spec.seed, f"eval/{part.name}", 0, numbers, per_prompt)
            sampled = self.policy.generator.sample(
                [example.prompt for example in piece],
                keys,
                how,
                budget=SAMPLING_FACTOR * spec.batch.tokens_per_microbatch,
                tick=self.session.tick,
            )
            scored = score(
                self.policy,
                spec.rewards,
                piece,
                sampled,
                self.session.tick,
                budget=spec.batch.tokens_per_microbatch,
            )
            for total in scored.totals:
                if not math.isnan(total):
                    means.add("reward", total, 1)
            for name, scores in scored.parts.items():
                for value in scores:
                    if value is not None:
                        means.add(f"rewards/{name}/mean", value, 1)
            for item in sampled:
                means.add("mean_length", len(item.tokens), 1)
                means.add("clipped_ratio", float(item.finish_reason == "length"), 1)
            add_accuracy(means, scored.correct, per_prompt)
            if first == 0 and not spec.online:
                zeros = [0.0] * len(sampled)
                versions = [step] * len(sampled)
                self.session.report.write_samples(
                    samples_of(step, piece, sampled, scored, zeros, versions)
                )
        means.over(ranks)
        return means.values()


def _add_losses(means: Means, losses: Iterable[Loss], count: int) -> None:
    """Add the losses of a slice, each normalised by the slice, so that slices weigh by their rows."""
    for loss in losses:
        means.add("loss", float(loss.value) * count, 0)
        means.add_loss(loss)
    means.add("loss", 0.0, count)


def _renamed(means: Means, names: Mapping[str, str]) -> dict[str, float]:
    values = means.values()
    return {ours: values[key] for key, ours in names.items() if key in values}


def _slices(examples: Sequence[Example]) -> list[Sequence[Example]]:
    return [examples[first : first + SLICE] for first in range(0, len(examples), SLICE)]


def by_weight(
    parts: Sequence[Part], values_of: Callable[[Part], Mapping[str, float]]
) -> dict[str, float]:
    """`eval/SOURCE/...` of every source, and `eval/...`: the mean by the sources' weights."""
    found: dict[str, float] = {}
    weighted: dict[str, tuple[float, float]] = {}
    for part in parts:
        values, share = values_of(part), part.source.weight
        found |= {f"eval/{part.name}/{key}": value for key, value in values.items()}
        for key, value in values.items():
            total, weight = weighted.get(key, (0.0, 0.0))
            weighted[key] = (total + share * value, weight + share)
    return found | {f"eval/{key}": total / weight for key, (total, weight) in weighted.items()}


def sampling_at(spec: RunSpec) -> Sampling:
    """How an evaluation draws."""
    asked = spec.evaluation
    return Sampling(
        asked.max_new_tokens or spec.rollout.max_new_tokens,
        asked.temperature,
        asked.top_p,
        asked.top_k,
        asked.min_p,
    )


def add_accuracy(means: Means, correct: Sequence[bool | None], per_prompt: int) -> None:
    """Add accuracy and pass@k of answers, `per_prompt` of one prompt behind those of another."""
    for first in range(0, len(correct), per_prompt):
        known = [flag for flag in correct[first : first + per_prompt] if flag is not None]
        if not known:
            continue
        means.add("accuracy", sum(known), len(known))
        for k in pass_ks(per_prompt):
            if k <= len(known):
                means.add(f"pass@{k}", pass_at_k(len(known), sum(known), k), 1)


def pass_ks(samples: int) -> list[int]:
    """The k reported for so many samples: powers of two, and the number itself; none for one sample."""
    if samples < 2:
        return []
    powers = [2**i for i in range(1, samples.bit_length()) if 2**i < samples]
    return [*powers, samples]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): unbiased (arXiv 2107.03374, equation 1)."""
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)
