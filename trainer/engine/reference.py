"""The model that losses compare with, loaded when it is first asked for; frozen but for `sync`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.adapted import adapter_off
from trainer.engine.failure import Failure
from trainer.engine.fingerprint import weights_digest
from trainer.engine.forward import token_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.forward import Row, Sequences
    from trainer.engine.policy import Policy

PREFIX = "reference/"
"""Before its weights' names in a checkpoint."""
DIGEST = "reference_digest"


@dataclass
class Reference:
    """Log-probabilities under the reference, without gradient."""

    load: Callable[[], Policy]
    shared: bool = False
    """It is the policy itself with its adapter switched off: no second model in memory."""
    name: str = ""
    """As the spec calls it."""
    digest: str = ""
    """Of the weights it was first loaded with; "" until then."""
    _policy: Policy | None = field(default=None, repr=False)
    _synced: bool = False
    _memories: list[dict[Any, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def without_adapter(cls, policy: Policy) -> Reference:
        """The base that the policy's adapter stands on."""
        return cls(lambda: policy, shared=True)

    def get(self) -> Policy:
        """The model; loaded once. Raises Failure where it is not the one that the run began with."""
        if self._policy is None:
            self._policy = self.load()
            if not self.shared:
                self._policy.model.requires_grad_(False)
                self._check_digest(weights_digest(self._policy.model))
        return self._policy

    def _check_digest(self, found: str) -> None:
        if self.digest not in ("", found):
            raise Failure(
                "bad-input",
                f"reference.name: the weights of {self.name or 'the reference'} have changed since the run "
                "began, and the loss compares with them; put the old ones back, or start a new run",
            )
        self.digest = found

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
        """Its digest, for a checkpoint, and its weights once they are no longer those it was loaded with."""
        saved: dict[str, torch.Tensor] = {}
        if self.digest:
            saved[DIGEST] = torch.tensor(list(bytes.fromhex(self.digest)), dtype=torch.uint8)
        if self._synced:
            named = self.get().model.named_parameters()
            saved |= {f"{PREFIX}{name}": parameter.detach() for name, parameter in named}
        return saved

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave, among other things."""
        if DIGEST in tensors:
            self.digest = bytes(tensors[DIGEST].tolist()).hex()
        saved = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        if not saved:
            return
        with torch.no_grad():
            for name, parameter in self.get().model.named_parameters():
                parameter.copy_(saved[name])
        self._synced = True
