"""WSD: warm up, stay at the peak, decay at the end (MiniCPM, arXiv 2404.06395, section 4)."""

from typing import Literal

from pydantic import Field

from trainer.registry import Schedule


class WSD(Schedule):
    """Hold the peak rate, then fall linearly over the last share of the run."""

    type: Literal["wsd"] = "wsd"

    decay_share: float = Field(0.2, gt=0, le=1)
    """Share of the steps after warm-up over which the rate falls. Healthy: 0.1 to 0.2.
    Source: arXiv 2404.06395, section 4."""
    floor: float = Field(0.0, ge=0, le=1)
    """Rate at the end, as a share of the peak. Healthy: 0 to 0.1."""

    def after_warmup(self, progress: float) -> float:
        """1 until the decay begins, then a straight line to `floor`."""
        start = 1.0 - self.decay_share
        if progress <= start:
            return 1.0
        return 1.0 - (1.0 - self.floor) * (progress - start) / self.decay_share
