"""Linear: from the peak rate down to a floor."""

from typing import Literal

from pydantic import Field

from trainer.registry import Schedule


class Linear(Schedule):
    """Fall in a straight line to the floor."""

    type: Literal["linear"] = "linear"

    floor: float = Field(0.0, ge=0, le=1)
    """Rate at the end, as a share of the peak. Healthy: 0 to 0.1."""

    def after_warmup(self, progress: float) -> float:
        """1 at progress 0, `floor` at progress 1."""
        return 1.0 - (1.0 - self.floor) * progress
