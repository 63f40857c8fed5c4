"""Several processes that train one model: who does which part, and what all of them must know alike.

A rank works on its share of each batch, by whole groups; everything that describes the batch as a whole (token
weights, advantages, metrics) is computed alike on every rank from what all of them gathered, so that summed
gradients are those of one process. Only rank 0 writes and obeys; what it decides it tells the others.
What is exchanged is JSON and safetensors: nothing is ever unpickled.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence

JOIN_WITHIN = timedelta(minutes=10)
"""Importing the libraries may take long on a cold disk."""
ANSWER_WITHIN = timedelta(days=1)
"""A rank may wait long for one that evaluates or scores; a rank that died is noticed by its closed connection and
by whoever watches its process, a rank that hangs by its silence."""
SHORTEST_PAUSE, LONGEST_PAUSE = 5e-5, 5e-3
"""Seconds between two looks whether the others have come."""
BUCKET = 1 << 24
"""Numbers that are summed in one message."""
NOTE = "note"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, as one of them sees them; by default it is alone."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Of those the ones on each machine, in a row; 0 where there is one machine."""
    sharded: bool = False
    """Each holds a part of the model alone (`resources.sharding = "full"`)."""
    waiting: Callable[[], None] | None = None
    """Called again and again while this rank waits for others: the first one goes on to obey, and is heard of."""

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this one writes, and obeys orders."""
        return self.rank == 0

    @property
    def several_machines(self) -> bool:
        return 0 < self.local < self.size

    @property
    def first_here(self) -> bool:
        """Whether this is the first one on its machine."""
        return self.rank % (self.local or self.size) == 0

    # --- who does what ---------------------------------------------------------------------------

    def share(self, count: int) -> range:
        """This rank's part of `count` things in a row; the parts differ by one at most."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def deal(self, costs: Sequence[float]) -> list[int]:
        """This rank's things, in order, so that the costs of all ranks come close: the dearest first, each to
        whom has least."""
        if self.alone:
            return list(range(len(costs)))
        loads = [0.0] * self.size
        mine: list[int] = []
        for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
            rank = loads.index(min(loads))
            loads[rank] += costs[index]
            if rank == self.rank:
                mine.append(index)
        return sorted(mine)

    def deal_groups(
        self, wanted: Sequence[int], group_of: Sequence[int], tokens_of: Sequence[int]
    ) -> list[int]:
        """Which of the wanted answers are this rank's: whole groups, in order."""
        if self.alone:
            return list(wanted)
        costs: dict[int, float] = {}
        for answer in wanted:
            costs[group_of[answer]] = costs.get(group_of[answer], 0.0) + tokens_of[answer]
        groups = list(costs)
        mine = {groups[index] for index in self.deal(list(costs.values()))}
        return [answer for answer in wanted if group_of[answer] in mine]

    # --- what all know alike ---------------------------------------------------------------------

    def told(self, value: Any) -> Any:
        """What rank 0 says, on every rank; plain data. The others' values do not matter."""
        if self.alone:
            return value
        words = _bytes(json.dumps(value) if self.first else "")
        size = torch.tensor([len(words)])
        self._finish(dist.broadcast(size, 0, async_op=True))
        if not self.first:
            words = torch.empty(int(size), dtype=torch.uint8)
        self._finish(dist.broadcast(words, 0, async_op=True))
        return json.loads(bytes(words.numpy()))

    def gather(
        self, tensors: Mapping[str, torch.Tensor], note: Any = None
    ) -> list[tuple[dict[str, torch.Tensor], Any]]:
        """What every rank gave, in their order, on every rank: tensors (on the CPU) and plain data."""
        if self.alone:
            return [(dict(tensors), note)]
        mine = _bytes(save({**tensors, NOTE: _bytes(json.dumps(note))}))
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        self._finish(dist.all_gather(sizes, torch.tensor([len(mine)]), async_op=True))
        width = max(int(size) for size in sizes)
        padded = torch.zeros(width, dtype=torch.uint8)
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in sizes]
        self._finish(dist.all_gather(parts, padded, async_op=True))
        found = []
        for part, size in zip(parts, sizes, strict=True):
            of_rank = load(bytes(part[: int(size)].numpy()))
            found.append((of_rank, json.loads(bytes(of_rank.pop(NOTE).numpy()))))
        return found

    def most(self, count: int) -> int:
        """The largest of all ranks' numbers."""
        if self.alone:
            return count
        found = torch.tensor([count])
        self._finish(dist.all_reduce(found, dist.ReduceOp.MAX, async_op=True))
        return int(found)

    def add(self, tensor: torch.Tensor) -> None:
        """Sum over the ranks, in place."""
        if not self.alone:
            self._finish(dist.all_reduce(tensor, async_op=True))

    def send(self, tensor: torch.Tensor) -> None:
        """Rank 0's tensor to all, in place."""
        if not self.alone:
            self._finish(dist.broadcast(tensor, 0, async_op=True))

    def wait(self) -> None:
        """Until all have come this far."""
        self.most(0)

    def _finish(self, work: Any) -> None:
        """Wait for a collective; raises what `waiting` raises, and RuntimeError when another rank is gone."""
        pause = SHORTEST_PAUSE
        while self.waiting is not None and not work.is_completed():
            self.waiting()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        work.wait()

    # --- gradients -------------------------------------------------------------------------------

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients; a parameter that no rank has reached keeps none, as with one process."""
        if self.alone:
            return
        known = list(parameters)
        if not known:
            return
        reached = torch.tensor([p.grad is not None for p in known], dtype=torch.uint8)
        self._finish(dist.all_reduce(reached, dist.ReduceOp.MAX, async_op=True))
        bucket: list[torch.Tensor] = []
        for parameter, flag in zip(known, reached.tolist(), strict=True):
            if not flag:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(gradient.numel() for gradient in bucket) >= BUCKET:
                self._add_together(bucket)
                bucket = []
        self._add_together(bucket)

    def _add_together(self, gradients: list[torch.Tensor]) -> None:
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.add(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, summed in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(summed.view_as(gradient))


ALONE = Ranks()


def join(
    rank: int,
    size: int,
    port: int,
    device: torch.device,
    listening: socket.socket | None = None,
    address: str = LOOPBACK,
) -> Ranks:
    """Meet the other ranks at rank 0's address and port. `listening`: rank 0's socket there, bound before the
    others were started, so that nobody can take the port in between."""
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address,
        port,
        size,
        is_master=rank == 0,
        timeout=JOIN_WITHIN,
        wait_for_workers=False,
        master_listen_fd=None if listening is None else listening.detach(),
    )
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=ANSWER_WITHIN)
    return Ranks(rank, size)


def leave() -> None:
    """Part in order, at the end of a training that all ranks have reached."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _bytes(data: str | bytes) -> torch.Tensor:
    raw = data.encode() if isinstance(data, str) else data
    return (
        torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        if raw
        else torch.empty(0, dtype=torch.uint8)
    )
