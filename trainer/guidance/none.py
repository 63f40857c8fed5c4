"""No guidance: the policy samples on its own."""

from typing import Literal

from trainer.registry import Guidance


class NoGuidance(Guidance):
    """Sample without help."""

    type: Literal["none"] = "none"
