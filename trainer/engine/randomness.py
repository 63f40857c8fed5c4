"""Every random state that code of a run may draw from: Python's, numpy's, torch's on CPU and GPUs.

What the trainer itself draws is counter-based (`seeds`) and needs no state; dropout, a user's method or
a library may still draw from these.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def seed_all(seed: int) -> None:
    """Start every generator from the run's seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def states() -> dict[str, torch.Tensor]:
    """The states as tensors by name: `python`, `numpy`, `cpu`, `cuda/0` ..."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    found = {
        "python": torch.tensor(words),
        "numpy": torch.tensor([*map(int, keys), int(position), int(has_gauss)]),
        "numpy_normal": torch.tensor([float(cached)], dtype=torch.float64),
        "cpu": torch.get_rng_state(),
    }
    if gauss is not None:
        found["python_normal"] = torch.tensor([gauss], dtype=torch.float64)
    if torch.cuda.is_available():
        found |= {f"cuda/{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return found


def restore(found: dict[str, torch.Tensor]) -> None:
    """Go on from what `states` gave. A GPU that is not there any more is passed over."""
    gauss = float(found["python_normal"][0]) if "python_normal" in found else None
    random.setstate((3, tuple(found["python"].tolist()), gauss))
    *keys, position, has_gauss = found["numpy"].tolist()
    cached = float(found["numpy_normal"][0])
    words = np.array(keys, dtype=np.uint32)
    np.random.set_state(("MT19937", words, position, has_gauss, cached))
    torch.set_rng_state(found["cpu"])
    for device in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda/{device}" in found:
            torch.cuda.set_rng_state(found[f"cuda/{device}"], device)


@contextmanager
def kept() -> Iterator[None]:
    """What is done within draws as it likes, and leaves no trace in the states."""
    before = states()
    try:
        yield
    finally:
        restore(before)
