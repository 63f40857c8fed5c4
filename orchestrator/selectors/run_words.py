"""What a run is called in a line: its methods as chips, its default charts.

Stored specs may be older than today's methods, so everything here reads raw JSON and expects nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.metrics import help_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import Run

ACRONYMS = frozenset({"grpo", "dpo", "sft", "rloo", "ppo", "kto", "ipo", "orpo", "cpo", "lora"})
QUIET = frozenset({"", "none", "auto", "native", "group-mean-std", "shuffled", "adamw", "constant"})
"""Methods that say nothing about a run because nearly every run has them."""

PHASES = (
    "data", "rollout", "reward", "logprob", "update", "sync", "eval", "checkpoint", "other", "wait",
)  # fmt: skip
"""Parts of a step, about in the order in which they happen; a place is a colour."""


_ID = re.compile(r"[a-z2-7]{12}")
UNIT_LENGTH = 18


@dataclass(frozen=True)
class ChartPlan:
    """One chart of a page: which metrics, drawn how."""

    keys: tuple[str, ...]
    title: str
    help: str
    stacked: bool = False

    @property
    def names(self) -> dict[str, str]:
        """What each metric is called in the legend."""
        if self.stacked:
            return {key: key.rpartition("/")[2] for key in self.keys}
        titles = {key: help_of(key).title for key in self.keys}
        stem = f"{self.title}, "
        return {key: title.removeprefix(stem) for key, title in titles.items()}

    @property
    def legend(self) -> bool:
        """Whether its lines need names."""
        return len(self.keys) > 1

    @property
    def joined(self) -> bool:
        """Whether the names of its lines are all that its title says."""
        return self.legend and not self.stacked and self.title == ", ".join(self.names.values())

    @property
    def unit(self) -> str:
        """The unit of its numbers, when all have the same and it is short."""
        units = {help_of(key).unit for key in self.keys}
        unit = units.pop() if len(units) == 1 else ""
        return unit if len(unit) <= UNIT_LENGTH and unit not in self.title.lower() else ""

    @property
    def evaluation(self) -> bool:
        """Whether it shows held-out figures alone, which come seldom."""
        return all(key.startswith("eval/") for key in self.keys)


def spec_of(run: Run) -> dict[str, Any]:
    """What the trainer ran, or what was asked of it until it has spoken."""
    return run.effective_spec or run.spec or {}


def objective_of(spec: dict[str, Any]) -> str:
    """The tag of the objective."""
    part = spec.get("objective")
    return str(part.get("type", "")) if isinstance(part, dict) else ""


def method_chips(spec: dict[str, Any]) -> list[str]:
    """Objective, the methods that are not the usual ones, and the data."""
    if spec.get("kind") == "play":
        return ["Playground"]
    if spec.get("kind") == "evaluate":
        return ["Evaluation", *_sources(spec)]
    families = ("advantage", "adapter", "curriculum", "guidance", "optimizer")
    tags = [_tag(spec.get(family)) for family in families]
    rollout = spec.get("rollout")
    engine = str(rollout.get("engine", "")) if isinstance(rollout, dict) else ""
    told = [tag for tag in [*tags, engine] if tag not in QUIET]
    objective = objective_of(spec)
    return [_shown(tag) for tag in [objective, *told] if tag] + _sources(spec)


def chart_plans(spec: dict[str, Any]) -> list[ChartPlan]:
    """The charts that matter for this objective, in the order that its class gives."""
    method = registry.family("objectives").get(objective_of(spec))
    wanted: Iterable[str] = getattr(method, "charts", ()) or ("loss", "grad_norm", "time")
    return [chart_plan(item) for item in [*wanted, *_moving_dials(method, spec)]]


class _Anything(dict[str, float]):
    """Metrics of a step in which everything was measured, and all of it alike."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> float:
        return self.value

    def get(self, key: str, default: Any = None) -> Any:
        return self.value


def _moving_dials(method: Any, spec: dict[str, Any]) -> list[str]:
    """Coefficients of the objective that its knobs let move while the run goes on."""
    try:
        objective = method.model_validate(spec["objective"])
    except (AttributeError, KeyError, ValueError):
        return []  # a spec of another version is shown without them
    before = objective.dials({}, {}, 0.0)
    far = [objective.dials(before, _Anything(value), 1.0) for value in (0.0, 1e3)]
    moving = [key for key in before if any(before[key] != after.get(key) for after in far)]
    # One chart for a coefficient and for what of it is applied.
    return ["|".join(moving_of) for moving_of in _stems(moving)]


def _stems(keys: list[str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key.removesuffix("_applied"), []).append(key)
    return list(found.values())


def chart_plan(item: str) -> ChartPlan:
    """A chart from its short form: `a|b` overlays two metrics, `time` stacks the parts of a step."""
    if item == "time":
        keys = tuple(f"time/{phase}" for phase in PHASES)
        return ChartPlan(keys, "Time in a step", "Seconds of each step by what was done.", True)
    keys = tuple(item.split("|"))
    return ChartPlan(keys, _title(keys), "\n\n".join(metric_help(key) for key in keys))


def metric_help(key: str) -> str:
    """A metric's definition, unit, normaliser, healthy range and source as lines of text."""
    found = help_of(key)
    notes = [
        ("Unit", found.unit),
        ("Over", found.normaliser),
        ("Healthy", found.healthy),
        ("Source", found.source),
    ]
    lines = [f"{key}: {found.definition}", *(f"{name}: {text}" for name, text in notes if text)]
    return "\n".join(lines)


def _title(keys: tuple[str, ...]) -> str:
    if len(keys) == 1:
        return help_of(keys[0]).title
    titles = [help_of(key).title for key in keys]
    # "Answer length, mean" and "Answer length, longest" are one chart about "Answer length".
    stems = {title.partition(",")[0] for title in titles}
    return stems.pop() if len(stems) == 1 else ", ".join(titles)


def _sources(spec: dict[str, Any]) -> list[str]:
    data = spec.get("data")
    parts = None
    if isinstance(data, dict):
        # An evaluation has training data by default, which it never looks at.
        evaluates = spec.get("kind") == "evaluate"
        parts = data.get("eval") if evaluates else data.get("train") or data.get("eval")
    names = [str(part.get("source", "")) for part in parts or [] if isinstance(part, dict)]
    if spec.get("kind") == "evaluate":
        names = [name for name in names if not _ID.fullmatch(name)]
    return [name.rstrip("/").rpartition("/")[2] or name for name in dict.fromkeys(names)][:2]


def _tag(part: Any) -> str:
    return str(part.get("type", "")) if isinstance(part, dict) else ""


def _shown(tag: str) -> str:
    return tag.upper() if tag in ACRONYMS else tag
