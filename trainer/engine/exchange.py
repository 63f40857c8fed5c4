"""What ranks have sampled and scored, put together again: in the order that one process would have had.

Legend: n answers of a rank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.engine.sampler import Sampled
from trainer.engine.scoring import Scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.ranks import Ranks


def sampled_everywhere(ranks: Ranks, mine: list[Sampled], first: int) -> list[Sampled]:
    """The answers of all ranks; `first` is the number in the batch that this rank's first prompt has."""
    if ranks.alone:
        return mine
    return [
        replace(item, prompt=start + item.prompt)
        for tensors, start in ranks.gather(_packed(mine), first)
        for item in _unpacked(tensors)
    ]


def scored_everywhere(ranks: Ranks, mine: Scored) -> Scored:
    """The scores of all ranks' answers."""
    if ranks.alone:
        return mine
    notes = [note for _, note in ranks.gather({}, vars(mine))]
    return Scored(
        texts=[text for note in notes for text in note["texts"]],
        parts={
            name: [value for note in notes for value in note["parts"][name]] for name in mine.parts
        },
        totals=[value for note in notes for value in note["totals"]],
        correct=[value for note in notes for value in note["correct"]],
    )


def _packed(items: Sequence[Sampled]) -> dict[str, torch.Tensor]:
    """Flat tensors. Log-probabilities and entropies were float32 before they were lists."""
    tensors = {
        "prompt_n": torch.tensor([item.prompt for item in items], dtype=torch.long),
        "length_n": torch.tensor([len(item.tokens) for item in items], dtype=torch.long),
        "stopped_n": torch.tensor([item.finish_reason == "stop" for item in items]),
        "tokens": torch.tensor([t for item in items for t in item.tokens], dtype=torch.long),
    }
    for name in ("logps", "entropies", "log_kept"):
        values = [value for item in items for value in getattr(item, name)]
        tensors[name] = torch.tensor(values, dtype=torch.float32)
    kept = [item.kept for item in items if item.kept is not None]
    if kept:
        tensors["kept"] = torch.from_numpy(np.concatenate(kept))
    return tensors


def _unpacked(tensors: dict[str, torch.Tensor]) -> list[Sampled]:
    lengths = tensors["length_n"].tolist()
    parts = {
        name: [piece.tolist() for piece in tensors[name].split(lengths)]
        for name in ("tokens", "logps", "entropies", "log_kept")
    }
    kept: list[np.ndarray | None] = [None] * len(lengths)
    if "kept" in tensors:
        kept = [piece.numpy() for piece in tensors["kept"].split(lengths)]
    return [
        Sampled(
            prompt=prompt,
            tokens=parts["tokens"][i],
            logps=parts["logps"][i],
            entropies=parts["entropies"][i],
            finish_reason="stop" if stopped else "length",
            log_kept=parts["log_kept"][i],
            kept=kept[i],
        )
        for i, (prompt, stopped) in enumerate(
            zip(tensors["prompt_n"].tolist(), tensors["stopped_n"].tolist(), strict=True)
        )
    ]
