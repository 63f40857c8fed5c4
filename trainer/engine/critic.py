"""The critic of PPO: what an answer will still earn, foretold before each of its tokens.

A trunk of its own, copied from the start model, and a linear head that begins at zero, so that the first
values are 0 for every prompt. Answers that were cut off are not bootstrapped: an episode ends with its last
token whatever it is, as in published RLHF code (arXiv 2203.02155, appendix C; TRL 0.x, OpenRLHF).
Legend: M scored tokens, H hidden size.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.adapted import is_adapted, merged
from trainer.engine.forward import hidden_states
from trainer.engine.ranks import ALONE
from trainer.engine.update import Diverged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.means import Means
    from trainer.engine.packing import Row, Sequences
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.methods import Optimizer

PREFIX = "critic/"


class Critic:
    """A value model with its optimizer."""

    def __init__(self, policy: Policy, optimizer: Optimizer) -> None:
        """Copies the policy as it is now; a resumed run then puts the saved weights in."""
        model = deepcopy(policy.model)
        trunk = (merged(model) if is_adapted(model) else model).base_model
        # No dropout: a value is a regression target's estimate, and noise in it becomes noise in advantages.
        trunk.requires_grad_(True).eval()
        self.trunk = replace(policy, model=trunk)
        width = trunk.config.get_text_config().hidden_size
        self.head = torch.nn.Linear(width, 1, device=policy.device, dtype=torch.float32)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.optimizer = optimizer.build(self._named())

    def values(self, sequences: Sequences, wanted: Sequence[int], rows: list[Row]) -> torch.Tensor:
        """Values (B, A) before each token of the wanted answers, with gradient where gradients are on."""
        states = hidden_states(self.trunk, sequences, wanted, rows=rows)
        return states.scattered(self.head(states.hidden_MH.float())[:, 0])

    def zero_grad(self) -> None:
        """Before the losses of an update."""
        self.optimizer.zero_grad(set_to_none=True)

    def clip(self, max_grad_norm: float, means: Means, ranks: Ranks = ALONE) -> None:
        """After the losses of an update, on all ranks. Raises Diverged before any weight is touched."""
        parameters = [parameter for _, parameter in self._named()]
        ranks.add_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or math.inf))
        if not math.isfinite(norm):
            raise Diverged({"critic/grad_norm": norm})
        means.add("critic/grad_norm", norm, 1)

    def step(self, lr: float) -> None:
        """Move the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights and moments, for a checkpoint."""
        found = {f"{PREFIX}weights/{name}": value.detach() for name, value in self._named()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                kind = "moments" if isinstance(value, torch.Tensor) else "numbers"
                found[f"{PREFIX}{kind}/{index}/{key}"] = torch.as_tensor(value)
        return found

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave."""
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(tensors[f"{PREFIX}weights/{name}"])
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith((f"{PREFIX}moments/", f"{PREFIX}numbers/")):
                _, kind, index, key = name.split("/")
                entry = value.clone() if kind == "moments" else value.item()
                state.setdefault(int(index), {})[key] = entry
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        head = [(f"head.{name}", value) for name, value in self.head.named_parameters()]
        return [*self.trunk.model.named_parameters(), *head]
