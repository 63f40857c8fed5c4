"""Cosine: half a cosine from the peak rate down to a floor (SGDR, arXiv 1608.03983, eq. 5, one cycle)."""

import math
from typing import Literal

from pydantic import Field

from trainer.registry import Schedule


class Cosine(Schedule):
    """Fall along half a cosine to the floor."""

    type: Literal["cosine"] = "cosine"

    floor: float = Field(0.0, ge=0, le=1)
    """Rate at the end, as a share of the peak. Healthy: 0 to 0.1.
    Source: arXiv 1608.03983, equation 5."""

    def after_warmup(self, progress: float) -> float:
        """1 at progress 0, `floor` at progress 1."""
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
