"""The frozen model that losses compare with, loaded when it is first asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from trainer.engine.adapted import adapter_off
from trainer.engine.forward import token_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.forward import Row, Sequences
    from trainer.engine.policy import Policy


@dataclass
class Reference:
    """Log-probabilities under the reference, without gradient."""

    load: Callable[[], Policy]
    shared: bool = False
    """It is the policy itself with its adapter switched off: no second model in memory."""
    _policy: Policy | None = field(default=None, repr=False)

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
