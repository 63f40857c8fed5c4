"""A run at one step boundary, copied to the CPU: what is written while training goes on.

Weights are float32 always, whatever precision the arithmetic has: they are their own masters, so there
is no second set to save. The schedule is a pure function of the step and needs no state either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine import randomness
from trainer.engine.adapted import adapter_weights, is_adapted
from trainer.engine.parts import divided
from trainer.engine.ranks import ALONE
from trainer.engine.sharding import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks


@dataclass(frozen=True)
class Snapshot:
    """Everything a checkpoint holds; nothing of it changes any more."""

    state: dict[str, Any]
    """Position, counters, controllers: `State.to_json`."""
    weights: dict[str, torch.Tensor]
    """What was trained: all weights by their names, or an adapter's. Tied ones share their memory."""
    optimizer: Any
    """The optimizer's state as plain data; its tensors are in `tensors`."""
    tensors: dict[str, torch.Tensor]
    """Of the optimizer, the learner's buffers, and the random states."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """What the state belongs to: see `fingerprint`."""
    part: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of a model that is divided among ranks: this rank's rows of the optimizer's tensors (`parts`)."""
    shapes: dict[str, Any] = field(default_factory=dict)
    """The whole shapes of those tensors."""
    ranks: int = 1

    @classmethod
    def take(
        cls,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        *,
        state: dict[str, Any],
        buffers: Mapping[str, torch.Tensor],
        fingerprint: dict[str, Any],
        ranks: Ranks = ALONE,
    ) -> Snapshot:
        """Copy. Called in the training's own thread, between two steps, and where the model is divided by all
        ranks, of which the first one gets the weights."""
        model = policy.model
        weights = (
            adapter_weights(model) if is_adapted(model) else weights_of(model, keep=ranks.first)
        )
        tensors: dict[str, torch.Tensor] = {}
        plain = flatten(optimizer.state_dict(), "optimizer", tensors)
        part, shapes = divided(tensors)
        tensors |= {f"learner/{name}": value for name, value in buffers.items()}
        tensors |= {f"rng/{name}": value for name, value in randomness.states().items()}
        return cls(
            state,
            _copied(weights),
            plain,
            _copied(tensors),
            fingerprint,
            _copied(part),
            shapes,
            ranks.size,
        )


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies on the CPU; a tensor that has two names is copied once."""
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        key = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if key not in copies or not value.numel():
            copies[key] = value.detach().to("cpu", copy=True).contiguous()
        found[name] = copies[key]
    return found


def flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain data with every tensor replaced by its name in `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        items = [[key, flatten(item, f"{name}/{key}", tensors)] for key, item in value.items()]
        return {"items": items}
    if isinstance(value, (list, tuple)):
        items = [flatten(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    return {"value": value}


def unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `flatten` was given."""
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "items" in value:
        return {key: unflatten(item, tensors) for key, item in value["items"]}
    if "list" in value:
        return [unflatten(item, tensors) for item in value["list"]]
    if "tuple" in value:
        return tuple(unflatten(item, tensors) for item in value["tuple"])
    return value["value"]
