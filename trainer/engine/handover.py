"""Weights in memory that two processes share: each tensor once, at an offset that both know.

The memory is a file without a name, which ends with the last process that holds it. On a GPU the weights go
through it as well: from the device into host memory, and from there to the other process's device.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ALIGNED = 64
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Where all tensors lie."""

    entries: tuple[Entry, ...]
    size: int
    """Bytes."""

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Layout:
        """One behind the other, in the order of the mapping."""
        entries, offset = [], 0
        for name, tensor in tensors.items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            entries.append(Entry(name, dtype, tuple(tensor.shape), offset))
            offset += -(-tensor.numel() * tensor.element_size() // ALIGNED) * ALIGNED
        return cls(tuple(entries), max(offset, 1))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [[one.name, one.dtype, list(one.shape), one.offset] for one in self.entries]
        return {"size": self.size, "tensors": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Layout:
        """What `to_json` gave."""
        rows = data["tensors"]
        entries = tuple(Entry(name, dtype, tuple(shape), at) for name, dtype, shape, at in rows)
        return cls(entries, int(data["size"]))


class Weights(Protocol):
    """Weights on their way, as the one who takes them sees them."""

    @property
    def layout(self) -> Layout:
        """What they are."""

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each once, by name; whoever wants to keep one copies it."""

    def digest(self) -> int:
        """Of all of them."""


class Memory:
    """Shared memory in a layout: made by one process, opened by the other through its descriptor."""

    def __init__(self, layout: Layout, descriptor: int | None = None) -> None:
        self.layout = layout
        self.descriptor = _memory_open(layout.size) if descriptor is None else descriptor
        self._map: mmap.mmap | None = mmap.mmap(self.descriptor, layout.size)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors as they lie there: whoever wants to keep one copies it."""
        assert self._map is not None
        for one in self.layout.entries:
            dtype = getattr(torch, one.dtype)
            if not one.count:
                yield one.name, torch.empty(one.shape, dtype=dtype)
                continue
            flat = torch.frombuffer(self._map, dtype=dtype, count=one.count, offset=one.offset)
            yield one.name, flat.view(one.shape)

    def write(self, tensors: Mapping[str, torch.Tensor]) -> int:
        """Copy these in; returns their digest. Raises KeyError when one is missing."""
        with torch.no_grad():
            for name, place in self.tensors():
                place.copy_(tensors[name].detach())
        return self.digest()

    def digest(self) -> int:
        """Of what lies there."""
        return digest(tensor for _, tensor in self.tensors())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it back, once no tensor of it is held any more."""
        if self._map is not None:
            self._map = None
            os.close(self.descriptor)


def digest(tensors: Iterable[torch.Tensor]) -> int:
    """A sum over all bits and places: other weights, or the same ones swapped, have another one."""
    total = 0
    for place, tensor in enumerate(tensors, start=1):
        bits = tensor.detach().contiguous().view(WORDS[tensor.element_size()])
        total += place * int(bits.sum(dtype=torch.int64))
    return total % (1 << 63)


def _memory_open(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("anneal-weights")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
