"""No adapter: every weight of the model is trained."""

from typing import Literal

from trainer.registry import Adapter


class NoAdapter(Adapter):
    """Train all weights."""

    type: Literal["none"] = "none"
