"""Several models that answer as one: a weighted sum of their logits at every token.

Logits and log-probabilities differ by a constant at each token, so a weighted sum of logits is, renormalised, the
weighted product of the distributions. A weight of 1 beside zeros leaves the model's logits to the bit.
Legend: R rows, T row tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.play import Blend


@dataclass(frozen=True)
class Part:
    """A model and how much its logits count."""

    policy: Policy
    weight: float


def parts_of(blend: Blend, models: Mapping[str, Policy]) -> list[Part]:
    """The models of a blend with their weights; one of weight 0 has no part in it. Raises ValueError."""
    w = blend.weight
    weights = {"a": 1 - w, "b": w} if blend.mode == "mix" else {"base": 1.0, "b": w, "a": -w}
    if missing := weights.keys() - models.keys():
        raise ValueError(f"blend.mode: proxy tuning needs a third model, the {', '.join(missing)}")
    return [Part(models[name], weight) for name, weight in weights.items() if weight != 0]


def blended(parts: Sequence[Part]) -> Policy:
    """A policy that samples as the parts do together; all of them must have the same tokens."""
    first = parts[0].policy
    ends = tuple(dict.fromkeys(token for part in parts for token in part.policy.eos_ids))
    policy = Policy(_Blend(parts), first.tokenizer, first.device, first.dtype)
    policy.eos_ids, policy.pad_id = ends, first.pad_id
    return policy


def vocabularies_check(models: Mapping[str, Policy]) -> None:
    """Raises ValueError when a token means another text to one of the models than to the first one."""
    (first, known), *others = ((name, policy.tokens) for name, policy in models.items())
    for name, tokens in others:
        if tokens == known:
            continue
        differing = [
            token for token in known.keys() | tokens if known.get(token) != tokens.get(token)
        ]
        example = min(differing)
        places = " and ".join(
            f"{'no token' if found is None else f'token {found}'} of {of}"
            for of, found in ((first, known.get(example)), (name, tokens.get(example)))
        )
        raise ValueError(
            f"play.models: {first} and {name} have different vocabularies, {len(differing)} tokens differ "
            f"({example[:40]!r} is {places}); only models with the same tokens can be compared token by token"
        )


@dataclass(frozen=True)
class _Output:
    """What transformers' models return, as far as the sampler reads it."""

    logits: torch.Tensor
    past_key_values: _Caches


class _Caches:
    """The caches of all parts: what is done to one is done to each."""

    def __init__(self, of_parts: list[Any]) -> None:
        self.of_parts = of_parts

    def batch_repeat_interleave(self, repeats: int) -> None:
        for cache in self.of_parts:
            cache.batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        for cache in self.of_parts:
            cache.batch_select_indices(indices)


class _Width:
    """The part of a config that says how wide the output layer is."""

    def __init__(self, width: int) -> None:
        self.vocab_size = width

    def get_text_config(self) -> _Width:
        return self


class _Blend(torch.nn.Module):
    """The parts behind the face of one model."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.parts = list(parts)
        # Models are padded to different widths; beyond the narrowest there are no tokens.
        self.config = _Width(min(part.policy.vocabulary for part in parts))

    def train(self, mode: bool = True) -> _Blend:
        """Dropout is off in all of them, always."""
        for part in self.parts:
            part.policy.model.eval()
        return super().train(mode)

    def forward(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        past_key_values: _Caches | None = None,
        logits_to_keep: int = 0,
        **more: Any,
    ) -> _Output:
        """Logits behind each of the tokens (R, T), or behind the last ones of each row."""
        caches = [None] * len(self.parts) if past_key_values is None else past_key_values.of_parts
        total: torch.Tensor | None = None
        used: list[Any] = []
        for part, cache in zip(self.parts, caches, strict=True):
            keep = {"logits_to_keep": logits_to_keep} if part.policy.keeps_logits else {}
            output = part.policy.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                **({} if logits_to_keep == 0 else keep),
                **more,
            )
            used.append(output.past_key_values)
            logits = part.weight * output.logits[..., : self.config.vocab_size].float()
            total = logits if total is None else total + logits
        assert total is not None
        return _Output(total, _Caches(used))
