"""What every metric means: definition, unit, normaliser, healthy range and source.

The texts are in `metrics.toml`. `help_of(key)` answers for any key, patterns (`rewards/*/mean`) and the
prefix `warmup/` included. No torch here: the web application reads this file too.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

WARM_UP_PREFIX = "warmup/"


@dataclass(frozen=True)
class MetricHelp:
    """The help text of one metric."""

    title: str
    definition: str
    unit: str = ""
    normaliser: str = ""
    """What the sum is divided by, or how extrema and totals are taken."""
    healthy: str = ""
    source: str = ""
    better: str = ""
    """ "higher", "lower" or "" where neither is better."""


FILE = Path(__file__).with_name("metrics.toml")
_ALL = {key: MetricHelp(**fields) for key, fields in tomllib.loads(FILE.read_text()).items()}
_EXACT = {key: found for key, found in _ALL.items() if "*" not in key}
_PATTERNS = {key: found for key, found in _ALL.items() if "*" in key}


@lru_cache(maxsize=4096)
def help_of(key: str) -> MetricHelp:
    """The help of a metric; an unknown key gets a help that says so."""
    if key.startswith(WARM_UP_PREFIX):
        inner = help_of(key.removeprefix(WARM_UP_PREFIX))
        return replace(
            inner,
            title=f"Warm-up: {inner.title}",
            definition=f"During the warm-up, by its own steps: {inner.definition}",
        )
    found = _EXACT.get(key) or _match(key)
    if found is not None:
        return found
    if key.startswith("eval/"):
        # eval/SOURCE/reward; a source's name may hold slashes, and so may a metric's.
        parts = key.removeprefix("eval/").split("/")
        for cut in range(1, len(parts)):
            source, metric = "/".join(parts[:cut]), "/".join(parts[cut:])
            inner_help = _EXACT.get(f"eval/{metric}") or _match(f"eval/{metric}")
            if source and inner_help is not None:
                return replace(inner_help, title=f"{inner_help.title} ({source})")
    return MetricHelp(key, "A metric of this run's own methods.")


def known_keys() -> dict[str, MetricHelp]:
    """Every documented key and pattern, for the catalogue and the tests."""
    return dict(_ALL)


def lower_is_better(key: str) -> bool:
    """Whether a checkpoint is better when this metric is lower."""
    return key.endswith("loss") or help_of(key).better == "lower"


def _match(key: str) -> MetricHelp | None:
    for pattern, found in _PATTERNS.items():
        if fnmatchcase(key, pattern):
            before, _, after = pattern.partition("*")
            part = key[len(before) : len(key) - len(after)]
            return replace(
                found,
                title=found.title.replace("{0}", part),
                definition=found.definition.replace("{0}", part),
            )
    return None
