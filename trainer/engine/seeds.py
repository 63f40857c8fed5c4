"""Counter-based random numbers: a draw depends on what it is for, never on what was drawn before.

SplitMix64 (Steele, Lea and Flood, 2014) over the words (run seed, purpose, step, prompt, sample, token).
Legend: P prompts, S samples of each.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def sample_keys(seed: int, purpose: str, step: int, prompts: list[int], samples: int) -> Words:
    """One key per answer, shape (prompts, samples). `prompts` number the prompts within the step."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    key = np.full((1, 1), int.from_bytes(digest, "little"), dtype=np.uint64)
    prompt_P1 = np.asarray(prompts, dtype=np.uint64)[:, None]
    sample_1S = np.arange(samples, dtype=np.uint64)[None, :]
    key = _mix(key + (prompt_P1 + np.uint64(1)) * _GOLDEN)
    return _mix(key + (sample_1S + np.uint64(1)) * _GOLDEN)


def answer_keys(seed: int, items: Sequence[str], samples: Sequence[int]) -> Words:
    """One key per answer, shape (items, samples), by what is asked: seed, digest of the item, number of the
    sample. Neither the model nor the place of the prompt among others has a part in it."""
    digests = [
        hashlib.blake2b(f"{seed}/answer/{item}".encode(), digest_size=8).digest() for item in items
    ]
    words = [int.from_bytes(digest, "little") for digest in digests]
    item_P1 = np.array(words, dtype=np.uint64)[:, None]
    sample_1S = np.asarray(samples, dtype=np.uint64)[None, :]
    return _mix(item_P1 + (sample_1S + np.uint64(1)) * _GOLDEN)


def uniforms(keys: Words, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) for each key: shape (*keys.shape, count)."""
    counter = np.arange(1, count + 1, dtype=np.uint64)
    words = _mix(keys[..., None] + counter * _GOLDEN)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
