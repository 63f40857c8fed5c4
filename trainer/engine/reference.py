"""The model that losses compare with, loaded when it is first asked for; frozen but for `sync`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.adapted import adapter_off
from trainer.engine.forward import token_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.forward import Row, Sequences
    from trainer.engine.policy import Policy

PREFIX = "reference/"
"""Before its weights' names in a checkpoint."""


@dataclass
class Reference:
    """Log-probabilities under the reference, without gradient."""

    load: Callable[[], Policy]
    shared: bool = False
    """It is the policy itself with its adapter switched off: no second model in memory."""
    _policy: Policy | None = field(default=None, repr=False)
    _synced: bool = False
    _memories: list[dict[Any, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def without_adapter(cls, policy: Policy) -> Reference:
        """The base that the policy's adapter stands on."""
        return cls(lambda: policy, shared=True)

    def get(self) -> Policy:
        """The model; loaded once."""
        if self._policy is None:
            self._policy = self.load()
            if not self.shared:
                self._policy.model.requires_grad_(False)
        return self._policy

    def _frozen(self) -> AbstractContextManager[None]:
        return adapter_off(self.get().model) if self.shared else nullcontext()

    def token_logps(
        self,
        sequences: Sequences,
        wanted: Sequence[int],
        rows: list[Row],
        temperature: float,
    ) -> torch.Tensor:
        """Log-probabilities (B, A) of the wanted answers' tokens, 0 behind their end."""
        with torch.no_grad(), self._frozen():
            scores = token_scores(self.get(), sequences, wanted, rows=rows, temperature=temperature)
            return scores.padded()[0]

    def memory(self) -> dict[Any, Any]:
        """A dictionary for what this reference said; emptied whenever its weights move."""
        found: dict[Any, Any] = {}
        self._memories.append(found)
        return found

    def sync(self, policy: Policy, mix: float) -> None:
        """pi_ref <- mix pi + (1 - mix) pi_ref, weight by weight: TR-DPO's soft update (arXiv 2404.09656)."""
        assert not self.shared
        now = dict(policy.model.named_parameters())
        with torch.no_grad():
            for name, parameter in self.get().model.named_parameters():
                parameter.lerp_(now[name], mix)
        self._synced = True
        for memory in self._memories:
            memory.clear()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its weights, for a checkpoint, once they are no longer those it was loaded with."""
        if not self._synced:
            return {}
        named = self.get().model.named_parameters()
        return {f"{PREFIX}{name}": parameter.detach() for name, parameter in named}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave, among other things."""
        saved = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        if not saved:
            return
        with torch.no_grad():
            for name, parameter in self.get().model.named_parameters():
                parameter.copy_(saved[name])
        self._synced = True
