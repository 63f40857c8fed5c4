"""A model of which every rank holds a part (FSDP2): divided, gathered for sampling, read back whole.

Each layer's weights are gathered before its forward and backward pass and let go behind them; what lies outside
the layers (embeddings, last norm, head) stays gathered from the forward to the end of the backward pass. A forward
pass is then a collective: all ranks must make equally many, so those with fewer micro-batches make idle ones.
Sampling would be one at every token: for it the whole model is gathered once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from trainer.methods import Loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks

HIDDEN = "hidden_states_of"
"""The method of a divided model that gives last hidden states: a forward pass as FSDP understands it."""

# torch's part for this takes half a second to load, and most trainings have one process.
# ruff: noqa: PLC0415


def shard(policy: Policy, ranks: Ranks) -> None:
    """Keep this rank's part of every weight. Raises ValueError when the model has no layers to go by."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model = policy.model
    mesh = init_device_mesh(policy.device.type, (ranks.size,))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for part in _parts(model):
        # Losses are sums over the whole batch: gradients are added up, not averaged.
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)
    base = model.base_model
    setattr(model, HIDDEN, lambda **inputs: base(**inputs).last_hidden_state)
    register_fsdp_forward_method(model, HIDDEN)
    policy.hidden_states_of = getattr(model, HIDDEN)
    # FSDP finds its root at the first pass, which must not be one of a layer alone.
    with torch.no_grad():
        list(idle(policy, 1))
    settle(policy)


def _layers(model: Any) -> list[Any]:
    """The blocks of a decoder: the longest list of equal modules beneath its base."""
    lists = [m for m in model.base_model.modules() if isinstance(m, torch.nn.ModuleList)]
    lists = [found for found in lists if len({type(block) for block in found}) == 1]
    if not lists:
        raise ValueError(
            f"resources.sharding: a {type(model).__name__} has no list of layers to divide; use none"
        )
    return list(max(lists, key=len))


def _parts(model: Any) -> list[Any]:
    """The modules that FSDP divides, the root first."""
    return [module for module in model.modules() if hasattr(module, "unshard")]


def settle(policy: Policy) -> None:
    """Let go of gathered weights: a step moves the parts, and what stays gathered would stay as it was."""
    for part in _parts(policy.model):
        part.reshard()


@contextmanager
def whole(policy: Policy, ranks: Ranks) -> Iterator[None]:
    """Within, every rank holds the whole model, and a forward pass without gradient asks nobody."""
    if not ranks.sharded:
        yield
        return
    root, *layers = _parts(policy.model)
    root.set_reshard_after_forward(False)
    try:
        for part in (root, *layers):
            part.unshard()
        yield
    finally:
        settle(policy)
        for layer in layers:
            layer.set_reshard_after_forward(True, recurse=False)


def idle(policy: Policy, rounds: int) -> Iterator[Loss]:
    """Passes over one token that move nothing, so that the other ranks find everybody at their passes."""
    for _ in range(rounds):
        token = torch.full((1, 1), policy.pad_id, dtype=torch.long, device=policy.device)
        with policy.autocast():
            if policy.compact_head:
                found = policy.head(policy.hidden_RTH(token, torch.zeros_like(token), None))
            else:
                found = policy.model(input_ids=token, use_cache=False).logits
        yield Loss(0.0 * found.float().sum())


def full(value: torch.Tensor) -> torch.Tensor:
    """A tensor whole; where it is divided all ranks must ask."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def weights_of(model: Any, *, keep: bool) -> dict[str, torch.Tensor]:
    """All weights by their names; tied ones are one tensor under several names.

    Of a divided model they are copied to the CPU one by one, and only where they are to be kept.
    """
    state: dict[str, torch.Tensor] = model.state_dict()
    if not _parts(model):
        return state
    parameters = dict(model.named_parameters(remove_duplicate=False))
    known: dict[int, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        key = id(parameters.get(name, value))
        if key not in known:
            gathered = full(value)
            known[key] = gathered.to("cpu", copy=True) if keep else gathered.new_empty(0)
        found[name] = known[key]
    return found if keep else {}


def optimizer_load(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take up an optimizer's state, whole as checkpoints hold it, whatever number of ranks has written it."""
    known = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {name: _part_of(value, known[index]) for name, value in entries.items()}
        for index, entries in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})


def _part_of(value: Any, like: Any) -> Any:
    """This rank's part of a whole tensor, divided as the parameter `like` is."""
    divided = isinstance(value, torch.Tensor) and hasattr(like, "placements")
    if not divided or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every rank has read the whole: nothing need be sent.
    whole_one = value.to(like.device)
    return distribute_tensor(whole_one, like.device_mesh, like.placements, src_data_rank=None)
