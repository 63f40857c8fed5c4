"""When to start a dead part again, and when to give it up."""

from __future__ import annotations

import dataclasses

WINDOW = 60.0  # seconds
GIVE_UP_AT = 5  # deaths within the window
DELAYS = (0.0, 0.25, 0.5, 1.0)  # seconds after the first, second, ... death of the window


@dataclasses.dataclass
class Restarts:
    """The recent deaths of one part."""

    deaths: list[float] = dataclasses.field(default_factory=list)

    def delay_after(self, now: float) -> float | None:
        """Note a death; return how long to wait before the next start, or None to give up."""
        self.deaths = [*(moment for moment in self.deaths if now - moment < WINDOW), now]
        if len(self.deaths) >= GIVE_UP_AT:
            return None
        return DELAYS[len(self.deaths) - 1]
