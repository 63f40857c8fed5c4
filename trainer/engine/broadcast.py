"""Weights from the trainer to the processes that sample, by a broadcast of torch.distributed: NCCL from GPU to
GPU without a way through host memory, gloo on a CPU.

The group stands beside whatever else a process has joined: vLLM has a group of its own. Processes meet through
a file in a folder that is theirs alone, and stays while they work: NCCL reads it at the first broadcast. On a CPU
they speak over the loopback address.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from trainer.engine.handover import digest
from trainer.engine.ranks import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainer.engine.handover import Layout

MEET_WITHIN, JOIN_WITHIN = timedelta(minutes=2), timedelta(minutes=15)
"""All are at work when they meet; a broadcast is joined at the end of a token, and one that hangs is noticed by
its silence long before."""
MEET = "meet"


class Broadcast:
    """One process of the group: number 0 gives, the others receive into a copy that they hold for a moment."""

    def __init__(
        self, layout: Layout, folder: str, number: int, size: int, device: torch.device
    ) -> None:
        """Meet the others. Blocks until all are there; raises RuntimeError when one does not come."""
        self.layout, self._device = layout, device
        store = dist.FileStore(  # type: ignore[attr-defined]
            str(Path(folder) / MEET), size
        )
        store.set_timeout(MEET_WITHIN)
        self._group = _group(store, number, size, device)
        self._options = dist.BroadcastOptions()
        self._options.rootRank = self._options.rootTensor = 0
        self._options.timeout = JOIN_WITHIN
        self._held: dict[str, torch.Tensor] = {}

    def send(
        self, tensors: Mapping[str, torch.Tensor], wait: Callable[[Callable[[], bool]], None]
    ) -> None:
        """Give each tensor once; `wait` is asked to wait until a condition holds. Raises RuntimeError when the
        connection breaks, KeyError when a tensor is missing."""
        # One at a time: gloo would hold as many buffers as there are tensors.
        for entry in self.layout.entries:
            self._exchange(tensors[entry.name].detach().contiguous(), wait)

    def receive(self) -> None:
        """Take what number 0 gives. Raises RuntimeError when the connection breaks."""
        for entry in self.layout.entries:
            held = torch.empty(entry.shape, dtype=getattr(torch, entry.dtype), device=self._device)
            self._exchange(held)
            self._held[entry.name] = held

    def _exchange(
        self, tensor: torch.Tensor, wait: Callable[[Callable[[], bool]], None] | None = None
    ) -> None:
        if not tensor.numel():
            return
        # As bytes: no transport knows every dtype.
        work = self._group.broadcast([tensor.reshape(-1).view(torch.uint8)], self._options)
        if wait is not None:
            wait(work.is_completed)
        work.wait()
        if self._device.type == "cuda":
            # NCCL's work is done when the stream is; whoever reads next may be on another one.
            torch.cuda.current_stream(self._device).synchronize()

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What was received."""
        yield from self._held.items()

    def digest(self) -> int:
        """Of what was received."""
        return digest(self._held.values())

    def forget(self) -> None:
        """Give the memory of what was received back."""
        self._held = {}

    def close(self) -> None:
        """Leave, whatever the others do."""
        self._group.abort()


def _group(store: Any, number: int, size: int, device: torch.device) -> Any:
    distributed: Any = dist
    if device.type == "cuda":
        nccl = distributed.ProcessGroupNCCL.Options()
        nccl._timeout = JOIN_WITHIN
        return distributed.ProcessGroupNCCL(store, number, size, nccl)
    gloo = distributed.ProcessGroupGloo._Options()
    gloo._devices = [distributed.ProcessGroupGloo.create_device(hostname=LOOPBACK)]
    gloo._timeout = MEET_WITHIN
    return distributed.ProcessGroupGloo(store, number, size, gloo)
