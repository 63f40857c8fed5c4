"""Constant: the peak rate after warm-up."""

from typing import Literal

from trainer.registry import Schedule


class Constant(Schedule):
    """Hold the peak rate."""

    type: Literal["constant"] = "constant"

    def after_warmup(self, progress: float) -> float:
        """Always 1."""
        return 1.0
