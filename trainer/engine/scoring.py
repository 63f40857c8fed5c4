"""Rewards of sampled answers: parts, weights, and what could not be scored."""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.engine.choices import choices_weighed
from trainer.engine.encode import answer_text
from trainer.engine.failure import Failure, Halt, verdict_of
from trainer.engine.patience import Patience
from trainer.engine.readings import READ_TOKENS, columns_read
from trainer.methods import Answer, Unavailable, Unscorable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled
    from trainer.methods import Reward


@dataclass
class Scored:
    """The scores of a list of answers."""

    texts: list[str]
    parts: dict[str, list[float | None]]
    totals: list[float]
    """Weighted sum of the parts that could be scored; NaN when none could."""
    correct: list[bool | None]
    """Whether an exact reward gave 1; None when there is no such reward or it could not say."""

    def parts_NK(self) -> torch.Tensor:
        """The score of each answer by each reward, unweighted (N, K); NaN = not scorable."""
        columns = [
            [math.nan if value is None else value for value in scores]
            for scores in self.parts.values()
        ]
        return torch.tensor(columns, dtype=torch.float32).T


def score(
    policy: Policy,
    rewards: Sequence[Reward],
    examples: Sequence[Example],
    sampled: Sequence[Sampled],
    tick: Callable[[], None],
    *,
    budget: int = READ_TOKENS,
) -> Scored:
    """Score every answer with every reward; `budget` bounds the padded tokens that the policy reads at once."""
    answers = answers_of(policy, rewards, examples, sampled, tick=tick, budget=budget)
    texts = [answer.text for answer in answers]
    parts: dict[str, list[float | None]] = {}
    with Patience(tick) as patience:
        for reward in rewards:
            scores: list[float | None] = []
            for first in range(0, len(answers), reward.at_once):
                tick()
                with patience.wait(reward.label, reward.time_limit):
                    found = _scores(reward, answers[first : first + reward.at_once])
                scores += [_known(value) for value in found]
            parts[reward.label] = scores
    return Scored(texts, parts, _totals(rewards, parts, len(answers)), _correct(rewards, parts))


def answers_of(
    policy: Policy,
    rewards: Sequence[Reward],
    examples: Sequence[Example],
    sampled: Sequence[Sampled],
    *,
    tick: Callable[[], None],
    budget: int,
) -> list[Answer]:
    """The answers as rewards see them; `Sampled.prompt` is the place of an answer's example."""
    prompts = [example.text for example in examples]
    columns = sorted({reward.reads for reward in rewards} - {""})
    read = columns_read(policy, examples, columns, tick=tick, budget=budget)
    choices = choices_weighed(policy, examples, tick=tick, budget=budget)
    return [
        Answer(
            prompt=prompts[item.prompt],
            text=answer_text(policy, item.tokens),
            tokens=len(item.tokens),
            finish_reason=item.finish_reason,
            row=examples[item.prompt].row,
            prompt_ids=examples[item.prompt].prompt,
            token_ids=item.tokens,
            vocabulary=policy.tokens,
            read=read[item.prompt],
            choices=choices[item.prompt],
        )
        for item in sampled
    ]


def _scores(reward: Reward, answers: Sequence[Answer]) -> Sequence[float | Unscorable | None]:
    """The scores of some answers. A reward is anybody's code: its error is told under its name."""
    try:
        return reward.scores(answers)
    except (Halt, Failure, MemoryError):
        raise
    except Unavailable as error:
        raise Failure("bad-input", f"rewards: {reward.label}: {error}") from error
    except Exception as error:
        if verdict_of(error).cause != "crash":
            raise
        traceback.print_exc()
        said = str(error).strip().splitlines()
        name = f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
        raise Failure("crash", f"The reward {reward.label} raised {name}") from error


def _known(value: float | Unscorable | None) -> float | None:
    # NaN from a reward means the same as None: it could not say.
    if value is None or isinstance(value, Unscorable) or math.isnan(value):
        return None
    return float(value)


def _totals(
    rewards: Sequence[Reward], parts: dict[str, list[float | None]], count: int
) -> list[float]:
    totals: list[float] = []
    for index in range(count):
        known = [
            reward.weight * value
            for reward in rewards
            if (value := parts[reward.label][index]) is not None
        ]
        totals.append(sum(known) if known else math.nan)
    return totals


def _correct(rewards: Sequence[Reward], parts: dict[str, list[float | None]]) -> list[bool | None]:
    exact = [parts[reward.label] for reward in rewards if reward.exact]
    count = len(next(iter(parts.values()), []))
    found: list[bool | None] = []
    for index in range(count):
        known = [scores[index] for scores in exact if scores[index] is not None]
        found.append(any(value == 1 for value in known) if known else None)
    return found


def spread(values: Sequence[float]) -> float:
    """Standard deviation with n - 1; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
