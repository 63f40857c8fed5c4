"""What a run carries from step to step, beside weights and optimizer: plain numbers, saved as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class State:
    """The position of a run; it changes at step boundaries only."""

    step: int = 0
    visited: list[int] = field(default_factory=list)
    """Rows visited of each source."""
    num_tokens: int = 0
    updates_done: int = 0
    """Optimizer steps taken on the rollout batch in hand; 0 when a new one is due."""
    evaluated: int = -1
    """The last step that was evaluated."""
    saved: int = -1
    """The last step that was saved."""
    final: bool = False
    """Whether it was saved as the run's end."""
    elapsed: float = 0.0
    """Seconds of training so far, across attempts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest evaluation."""
    dials: dict[str, float] = field(default_factory=dict)
    """Coefficients that move while the run goes on, as the last step had them: the objective's controllers."""
    seen: dict[str, float] = field(default_factory=dict)
    """What the last step measured, as far as it is repeatable: what controllers look at."""
    knobs: dict[str, Any] = field(default_factory=dict)
    """Live changes applied so far."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> State:
        """The state that `to_json` gave; keys of another version are left out."""
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})
