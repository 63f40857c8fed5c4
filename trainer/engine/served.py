"""What samples inside a generator's process, behind one verb for both engines.

Legend: P prompts, S samples of each.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from trainer.engine.adapted import adapter_place
from trainer.engine.handover import digest
from trainer.engine.policy import Policy
from trainer.engine.sampler import sample
from trainer.engine.weight_check import probe_logps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.handover import Weights
    from trainer.engine.sampler import Sampled
    from trainer.engine.tickets import Ticket
    from trainer.engine.vllm_engine import VllmEngine


class Served(Protocol):
    """An engine with tickets in line."""

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""

    def base_take(self, memory: Weights) -> None:
        """Take over what never changes in this run."""

    def take(self, memory: Weights, version: int) -> int:
        """Take over what is trained, also between two tokens. Returns the digest of what it took."""

    def probe(self, ids: Sequence[int]) -> list[float]:
        """Log-probabilities of the probe's tokens but the first."""

    def accept(self, ticket: Ticket) -> None:
        """Put a ticket in line."""

    def drop(self, number: int) -> None:
        """Forget a ticket, also one that is being worked on."""

    def work(self, between: Callable[[], None]) -> list[tuple[int, list[Sampled]]]:
        """Go on; returns tickets that are done. `between` is called between tokens and may do all of the above."""


class _Dropped(Exception):
    """Nobody wants the ticket in hand any more."""


class ServedNative:
    """The trainer's own sampler on a copy of the policy; one ticket after the other."""

    def __init__(self, folder: str, told: dict[str, Any], device: torch.device) -> None:
        """Build the model from its configuration. Raises ValueError when that cannot be."""
        model = model_build(Path(folder), told)
        model.to(device)
        model.eval()
        dtype = getattr(torch, told["dtype"])
        eos = tuple(told["eos_ids"])
        self.policy = Policy(model, None, device, dtype, eos_ids=eos, pad_id=told["pad_id"])
        self._own = {**dict(model.named_buffers()), **dict(model.named_parameters())}
        self._line: deque[Ticket] = deque()
        self._working = self._dropped = False

    @property
    def busy(self) -> bool:
        """Whether a ticket is in line."""
        return bool(self._line)

    def base_take(self, memory: Weights) -> None:
        """Buffers and frozen weights."""
        self._copy(memory)

    def take(self, memory: Weights, version: int) -> int:
        """Trained weights; what is being written is read anew by them."""
        self._copy(memory)
        self.policy.version = version
        return digest(self._own[entry.name] for entry in memory.layout.entries)

    def _copy(self, memory: Weights) -> None:
        with torch.no_grad():
            for name, tensor in memory.tensors():
                if name not in self._own:
                    raise ValueError(_unlike(f"it has no {name} then"))
                self._own[name].copy_(tensor)
        # Within autocast it holds copies in lower precision of weights that it has seen.
        torch.clear_autocast_cache()

    def probe(self, ids: Sequence[int]) -> list[float]:
        """As the trainer computes them."""
        return probe_logps(self.policy, ids)

    def accept(self, ticket: Ticket) -> None:
        """Put it at the end of the line; one that somebody waits for, behind the one in hand."""
        if ticket.urgent:
            self._line.insert(int(self._working), ticket)
        else:
            self._line.append(ticket)

    def drop(self, number: int) -> None:
        """The one in hand ends at its next token."""
        if self._working and self._line[0].number == number:
            self._dropped = True
        else:
            self._line = deque(each for each in self._line if each.number != number)

    def work(self, between: Callable[[], None]) -> list[tuple[int, list[Sampled]]]:
        """Sample the first ticket of the line whole."""
        ticket, self._working, self._dropped = self._line[0], True, False

        def tick() -> None:
            between()
            if self._dropped:
                raise _Dropped

        try:
            answers = sample(
                self.policy,
                ticket.prompts,
                ticket.keys_PS,
                ticket.how,
                budget=ticket.budget,
                tick=tick,
                versioned=True,
            )
        except _Dropped:
            return []
        finally:
            self._working = False
            self._line.popleft()
        return [(ticket.number, answers)]


class ServedVllm:
    """vLLM: all answers of all tickets at once, as far as its cache goes."""

    def __init__(self, engine: VllmEngine, adapter: str) -> None:
        """`adapter`: configuration of the adapter that is trained; "" where all weights are."""
        self.engine, self._adapter = engine, adapter
        self._open: dict[int, dict[str, Sampled | None]] = {}
        """Ticket -> its answers by name, in order."""
        self._ticket_of: dict[str, int] = {}

    @property
    def busy(self) -> bool:
        """Whether a ticket is open."""
        return bool(self._open)

    def base_take(self, memory: Weights) -> None:
        """The weights below an adapter."""
        self.engine.memory_take(memory)

    def take(self, memory: Weights, version: int) -> int:
        """All weights, or the adapter's."""
        if self._adapter:
            self.engine.adapter_take(self._adapter, dict(memory.tensors()))
        else:
            self.engine.memory_take(memory)
        self.engine.version = version
        return memory.digest()

    def probe(self, ids: Sequence[int]) -> list[float]:
        """As a prompt of its own among the answers that run."""
        return self.engine.probe_logps(ids)

    def accept(self, ticket: Ticket) -> None:
        """Begin its answers."""
        names: dict[str, Sampled | None] = {}
        for prompt, ids in enumerate(ticket.prompts):
            for key in ticket.keys_PS[prompt]:
                seed = int(key) & ((1 << 63) - 1)
                names[self.engine.add(prompt, ids, ticket.how, seed)] = None
        self._open[ticket.number] = names
        self._ticket_of |= dict.fromkeys(names, ticket.number)

    def drop(self, number: int) -> None:
        """Leave off its answers."""
        names = self._open.pop(number, {})
        self.engine.abort(names)
        for name in names:
            del self._ticket_of[name]

    def work(self, between: Callable[[], None]) -> list[tuple[int, list[Sampled]]]:
        """One token of every answer."""
        for name, answer in self.engine.step():
            if name in self._ticket_of:
                self._open[self._ticket_of[name]][name] = answer
        between()
        done = []
        for number, answers in list(self._open.items()):
            found = [each for each in answers.values() if each is not None]
            if len(found) == len(answers):
                self.drop(number)
                done.append((number, found))
        return done


def model_build(folder: Path, told: dict[str, Any]) -> Any:
    """A model like the trainer's with weights of no meaning. Raises ValueError when its class is not known."""
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    trust = bool(told["trust_remote_code"])
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust)
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation=told["attention"],
            trust_remote_code=trust,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(_unlike(reason)) from error
    model.config.use_cache = True
    if told["adapter"]:
        adapter_place(model, folder)
    return model


def _unlike(reason: str) -> str:
    return (
        "rollout.placement: the model cannot be built from its configuration alone in another process "
        f'({reason}); set it to "colocated"'
    )
