"""What becomes of the final checkpoint once its run has finished: JSON in the database."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trainer.spec import DataSource

START = "start"


class PromotionAfter(BaseModel):
    """Compare the final checkpoint with a baseline as soon as there is one, and approve it if it is better."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    baseline: str = Field(START, min_length=1, max_length=300)
    """`start` is the model that the run starts from; or `checkpoint:ID`, `run:ID` (its final checkpoint),
    `external:ID`, a folder, a hub id."""
    prompts: list[DataSource] = Field(default_factory=list, max_length=32)
    """Sources as in `data.eval`; left out, they are the run's own `data.eval`."""
    scorers: list[dict[str, Any]] = Field(default_factory=list, max_length=16)
    """Knobs as in `rewards`; left out, they are the run's own."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """samples, temperature, top_p, top_k, min_p, max_new_tokens of the comparison."""
    seed: int = Field(0, ge=0, lt=2**31)
    better_on: str = Field("", max_length=64)
    """Label of the scorer on which the verdict must be "better"; left out, it is the first one."""
    not_worse_on: str = Field("", max_length=64)
    """Label of a scorer whose interval must stay above minus the margin; "" for none."""
    margin: float = Field(0.0, ge=0, le=1e9)
    """In the unit of that scorer."""
