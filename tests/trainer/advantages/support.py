"""Outcomes made by hand, every estimator with every setting, and exact expectations over small policies."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import torch
from pydantic import ValidationError

from trainer.registry import Advantage, Outcomes, family

NAN = float("nan")


def outcomes(rewards: list[float], groups: list[int], **more: Any) -> Outcomes:
    """Answers of one token each, unless `lengths` says otherwise."""
    lengths = more.pop("lengths", [1] * len(rewards))
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    dtype = more.pop("dtype", torch.float32)
    return Outcomes(torch.tensor(rewards, dtype=dtype), torch.tensor(groups), mask, **more)


def method(tag: str, **knobs: Any) -> Advantage:
    return family("advantages")[tag](type=tag, **knobs)  # type: ignore[return-value]


def estimate(tag: str, given: Outcomes, **knobs: Any) -> torch.Tensor:
    return method(tag, **knobs).advantages(given)


def settings() -> dict[str, Advantage]:
    """Every estimator with every combination of its choices, by a readable name; a new one joins by itself."""
    found: dict[str, Advantage] = {}
    for tag, cls in family("advantages").items():
        choices: dict[str, tuple[Any, ...]] = {}
        for name, knob in cls.model_fields.items():
            if name == "type":
                continue
            if knob.annotation is bool:
                choices[name] = (False, True)
            elif knob.annotation is int:
                choices[name] = (knob.default, 2)
            elif knob.annotation is not float:
                choices[name] = get_args(knob.annotation)
        for values in product(*choices.values()):
            chosen = dict(zip(choices, values, strict=True))
            try:
                made = cls(**{"type": tag, **chosen})
            except ValidationError:
                continue  # a contradiction that the method refuses
            words = [tag, *(f"{name}={value}" for name, value in chosen.items())]
            found["-".join(words)] = made  # type: ignore[assignment]
    return found


class Lottery:
    """A softmax over a few answers with known rewards: expectations over it are exact sums."""

    def __init__(self, rewards: list[float], logits: list[float]) -> None:
        self.reward_V = torch.tensor(rewards, dtype=torch.float64)
        self.logit_V = torch.tensor(logits, dtype=torch.float64, requires_grad=True)

    @property
    def logp_V(self) -> torch.Tensor:
        return self.logit_V.log_softmax(0)

    def groups(self, size: int) -> torch.Tensor:
        """All groups of `size` draws (G, size): which answer each draw was."""
        return torch.cartesian_prod(*[torch.arange(len(self.reward_V))] * size).view(-1, size)

    def gradient(self, value: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(value, self.logit_V)
        return gradient

    def policy_gradient(self, estimator: Advantage, size: int, **more: Any) -> torch.Tensor:
        """Expected mean over the group of A grad log p, summed over all possible groups."""
        draw_GS = self.groups(size)
        given = Outcomes(
            self.reward_V[draw_GS].flatten(),
            torch.arange(len(draw_GS)).repeat_interleave(size),
            torch.ones(draw_GS.numel(), 1, dtype=torch.bool),
            **more,
        )
        advantage_GS = estimator.advantages(given).view(draw_GS.shape)
        logp_GS = self.logp_V[draw_GS]
        chance_G = logp_GS.sum(1).exp().detach()
        return self.gradient((chance_G[:, None] * advantage_GS * logp_GS / size).sum())

    def expected_best(self, size: int) -> torch.Tensor:
        """Expected best reward of `size` draws, with gradient."""
        draw_GS = self.groups(size)
        return (self.logp_V[draw_GS].sum(1).exp() * self.reward_V[draw_GS].amax(1)).sum()
