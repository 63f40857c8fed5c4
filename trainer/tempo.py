"""How often the processes of a run speak and how long each waits for another: seconds, from the environment.

Read and checked once, when a process starts. A machine that only trains reads the same variables; how often it
sends heartbeats is the server's choice.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "ANNEAL_"
DAY = 86_400.0
BOUNDS: dict[str, tuple[float, float]] = {
    "lost_for": (0.0, DAY),
    "sweep": (0.2, 60.0),
    "host_heartbeat": (0.2, 300.0),
    "ship_beat": (0.1, 60.0),
}
"""Least and most, where they are not `USUAL`."""
USUAL = (0.2, DAY)


@dataclass(frozen=True)
class Tempo:
    """One field a variable: `lease` is ANNEAL_LEASE."""

    lease: float = 30.0
    """How long an attempt may be silent: host, ship and node each speak every few seconds."""
    grace: float = 15.0
    """How long after a broken promise a run or a node is still taken to be there."""
    lost_for: float = 10.0
    """How long a run is shown as lost before another node may have it."""
    heartbeat: float = 5.0
    """Between two heartbeats of a node; it promises to speak within three."""
    sweep: float = 2.0
    """Between two looks for lost messages and for those who fell silent."""
    send_again: float = 5.0
    """After which an order that nobody has claimed is sent again."""
    unclaimed: float = 60.0
    """How long a node that is there may leave an order unclaimed before another one may have it."""
    http_timeout: float = 15.0
    """How long a node waits for the server's answer."""
    host_young: float = 15.0
    """How long a new attempt may take until its host has noted itself; then another host takes over."""
    host_again: float = 10.0
    """Between two tries of a node to help the same attempt."""
    host_heartbeat: float = 5.0
    """Between two heartbeats of a host; it promises to speak within four."""
    ship_beat: float = 1.5
    """Between two beats of ship."""
    ship_silence: float = 30.0
    """How long ship waits for an answer before it connects again."""
    ship_backoff: float = 5.0
    """The longest wait of ship between two tries to connect."""
    stop_grace: float = 30.0
    """How long a trainer that was asked to end has until SIGTERM, at least."""
    term_grace: float = 10.0
    """How long after SIGTERM until SIGKILL."""


AT_LEAST_TWICE = (
    ("lease", "heartbeat"),
    ("lease", "host_heartbeat"),
    ("lease", "ship_beat"),
    ("ship_silence", "ship_beat"),
    ("unclaimed", "send_again"),
    ("unclaimed", "sweep"),
)
"""The first must leave time for two of the second: one word may be late without harm."""


def tempo_read(environ: Mapping[str, str]) -> Tempo:
    """The tempo that the environment asks for. Raises ValueError that names the variable and what to change."""
    given = {one.name: _seconds(one.name, environ) for one in fields(Tempo)}
    tempo = Tempo(**{name: value for name, value in given.items() if value is not None})
    for longer, shorter in AT_LEAST_TWICE:
        needed, have = 2 * getattr(tempo, shorter), getattr(tempo, longer)
        if have < needed:
            raise ValueError(
                f"{variable(longer)} is {have:g} s and {variable(shorter)} {needed / 2:g} s; set "
                f"{variable(longer)} to {needed:g} or more, or {variable(shorter)} to {have / 2:g} or less."
            )
    return tempo


def variable(name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + name.upper()


def _seconds(name: str, environ: Mapping[str, str]) -> float | None:
    text = environ.get(variable(name), "").strip()
    if not text:
        return None
    least, most = BOUNDS.get(name, USUAL)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(
            f"{variable(name)} is '{text[:40]}'; it must be a number of seconds from {least:g} to {most:g}."
        )
    return value


TEMPO = tempo_read(os.environ)
