"""The form that makes a comparison: what it shows at first, and the order that it holds when it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.models import Dataset
from orchestrator.models.comparison import ARMS_MOST
from orchestrator.models.ids import new_id
from orchestrator.selectors.inputs import checkpoint_named
from orchestrator.selectors.reward_models import reward_models_chosen_from
from orchestrator.selectors.spec_choices import Choice, data_choices
from trainer import registry
from trainer.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES_MOST, SCORERS_MOST = 3, 3
MARGIN_MOST = 1e9
LIMIT = 200
"""Prompts that a new comparison takes of a source, unless its run's evaluation says otherwise."""
DEFAULT_SCORER = "exact-match"
NUMBERS = {
    "samples": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_new_tokens": 0,
}  # fmt: skip
"""Fields of `sampling` with what they are at first."""
HARNESS = "harness"
"""The source whose prompts are those of a task; the form names both as `harness:TASK`."""
PROMOTION = ("better_on", "not_worse_on", "margin")
"""Fields of the promotion rule; without the first one there is no rule."""


@dataclass
class Draft:
    """The fields as they stand in the page."""

    models: list[str]
    sources: list[dict[str, Any]]
    scorers: list[dict[str, str]]
    sampling: dict[str, str]
    seed: str = "0"
    name: str = ""
    promotion: dict[str, str] = field(default_factory=lambda: dict.fromkeys(PROMOTION, ""))
    key: str = field(default_factory=new_id)
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Field -> what is wrong with it; "" for what concerns no single field."""

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Hang problems on the fields that the page has."""
        for one in problems:
            self.problems.setdefault(self._place(one.path), []).append(
                one.message if self._place(one.path) == one.path else str(one)
            )

    def _place(self, path: str) -> str:
        parts = path.split(".")
        for length in range(len(parts), 0, -1):
            if (found := ".".join(parts[:length])) in self.fields():
                return found
        return ""

    def fields(self) -> set[str]:
        """Paths that have a place in the page."""
        found = {"name", "seed", "checkpoints", "prompts", "scorers"}
        found |= {f"checkpoints.{place}" for place in range(len(self.models))}
        found |= {f"prompts.{place}" for place in range(len(self.sources))}
        found |= {f"scorers.{place}" for place in range(len(self.scorers))}
        found |= {f"promotion.{name}" for name in PROMOTION}
        return found | {f"sampling.{name}" for name in NUMBERS}

    @property
    def complete(self) -> Draft:
        """With empty places for what can be added."""
        self.models += [""] * (ARMS_MOST - len(self.models))
        empty = {"source": "", "split": "test", "limit": str(LIMIT)}
        self.sources += [dict(empty) for _ in range(SOURCES_MOST - len(self.sources))]
        blank = {"type": "", "knobs": ""}
        self.scorers += [dict(blank) for _ in range(SCORERS_MOST - len(self.scorers))]
        return self


def draft_first(named: str) -> Draft:
    """The form for models `checkpoint:ID,external:ID,…`: evaluated as the first one's run was."""
    models = [name.strip() for name in named.split(",") if name.strip()]
    many = f"{len(models)} are selected; the first {ARMS_MOST} stand here, which is the most"
    problems = {"checkpoints": [many]} if len(models) > ARMS_MOST else {}
    models = models[:ARMS_MOST]
    first = next((found for name in models if (found := checkpoint_named(name))), None)
    spec = first.run.spec if first else {}
    return Draft(
        models=models,
        sources=_sources_of(spec) or [{"source": "", "split": "test", "limit": str(LIMIT)}],
        scorers=_scorers_of(spec) or [{"type": DEFAULT_SCORER, "knobs": ""}],
        sampling={name: str(value) for name, value in NUMBERS.items()},
        problems=problems,
    ).complete


def draft_read(posted: Mapping[str, str]) -> tuple[Draft, dict[str, Any]]:
    """The fields that were sent, and the order that they make; faulty numbers are among its problems."""

    def text(name: str) -> str:
        return posted.get(name, "").replace("\x00", "").strip()

    draft = Draft(
        models=[text(f"model-{place}") for place in range(ARMS_MOST)],
        sources=[
            {name: text(f"{name}-{place}") for name in ("source", "split", "limit")}
            for place in range(SOURCES_MOST)
        ],
        scorers=[
            {name: text(f"{name}-{place}") for name in ("type", "knobs")}
            for place in range(SCORERS_MOST)
        ],
        sampling={name: text(f"sampling-{name}") for name in NUMBERS},
        seed=text("seed") or "0",
        name=text("name"),
        promotion={name: text(f"promotion-{name}")[:64] for name in PROMOTION},
        key=text("_key")[:64] or new_id(),
    )
    # What is left empty in the middle must not move the problems of what comes behind it.
    draft.models = [name for name in draft.models if name]
    draft.sources = [source for source in draft.sources if source["source"]]
    draft.scorers = [scorer for scorer in draft.scorers if scorer["type"]]
    problems: list[Problem] = []
    order = {
        "checkpoints": draft.models,
        "prompts": [_source(one, place, problems) for place, one in enumerate(draft.sources)],
        "scorers": [_scorer(one, place, problems) for place, one in enumerate(draft.scorers)],
        "sampling": {
            name: value
            for name, typed in draft.sampling.items()
            if (value := _number(typed, f"sampling.{name}", type(NUMBERS[name]), problems))
            is not None
        },
        "seed": _number(draft.seed, "seed", int, problems) or 0,
        "name": draft.name,
        "promotion": _promotion(draft.promotion, problems),
    }
    draft.add_problems(problems)
    return draft, order


def scorer_choices() -> list[str]:
    """Types of scorers."""
    return sorted(registry.family("rewards"))


def knob_choices() -> list[Choice]:
    """Knobs with which the scorer `reward-model` scores with a model that is here."""
    return [
        Choice(json.dumps({"model": value}), f"reward-model: {label}")
        for choices in reward_models_chosen_from().values()
        for value, label in choices
    ]


def prompt_choices() -> dict[str, list[Choice]]:
    """Sources of prompts by heading; each task of lm-evaluation-harness is one of its own."""
    found = data_choices()
    found["Built in"] = [one for one in found["Built in"] if one.value != HARNESS]
    tasks = [
        Choice(f"{HARNESS}:{name}", f"{name} · score it with harness-task")
        for name in registry.task_names()
    ]
    return found | {"Tasks of lm-evaluation-harness": tasks} if tasks else found


def _source(typed: dict[str, str], place: int, problems: list[Problem]) -> dict[str, Any]:
    limit = _number(typed["limit"] or "0", f"prompts.{place}", int, problems) or 0
    source, _, task = typed["source"].partition(":")
    found = {"source": source, "split": typed["split"] or "test", "limit": limit}
    return {**found, "options": {"task": task}} if source == HARNESS and task else found


def _scorer(typed: dict[str, str], place: int, problems: list[Problem]) -> dict[str, Any]:
    knobs: Any = {}
    try:
        knobs = json.loads(typed["knobs"] or "{}")
    except ValueError as error:
        problems.append(Problem(path=f"scorers.{place}", message=f"knobs: not JSON ({error})"))
    if not isinstance(knobs, dict):
        problems.append(Problem(path=f"scorers.{place}", message="knobs: must be a JSON object"))
        knobs = {}
    return {**knobs, "type": typed["type"]}


def _promotion(typed: dict[str, str], problems: list[Problem]) -> dict[str, Any] | None:
    """The rule that the fields hold, None where they are empty."""
    if not any(typed.values()):
        return None
    path = "promotion.better_on"
    if not typed["better_on"]:
        words = "a promotion rule names the scorer on which a model must be better"
        problems.append(Problem(path=path, message=words))
    margin = _number(typed["margin"] or "0", "promotion.margin", float, problems)
    if margin is not None and not 0 <= margin <= MARGIN_MOST:
        words = f"must be from 0 to {MARGIN_MOST:g}"
        problems.append(Problem(path="promotion.margin", message=words))
    return {**typed, "margin": margin or 0.0}


def _number(text: str, path: str, kind: type, problems: list[Problem]) -> Any:
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        words = "a whole number" if kind is int else "a number"
        problems.append(Problem(path=path, message=f"'{text[:40]}' is not {words}"))
        return None


def _sources_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The held-out rows of a run, as far as the server can read them."""
    found = []
    for source in spec.get("data", {}).get("eval", [])[:SOURCES_MOST]:
        name = source.get("source", "")
        if name in registry.family("data") or Dataset.objects.filter(pk=name[:12]).exists():
            limit = source.get("limit") or LIMIT
            split = source.get("split", "test")
            task = (source.get("options") or {}).get("task")
            name = f"{name}:{task}" if name == HARNESS and task else name
            found.append({"source": name, "split": split, "limit": str(limit)})
    return found


def _scorers_of(spec: dict[str, Any]) -> list[dict[str, str]]:
    """The rewards of a run, with the knobs that somebody set."""
    found = []
    for reward in spec.get("rewards", [])[:SCORERS_MOST]:
        method = registry.family("rewards").get(reward.get("type", ""))
        if method is None:
            continue
        defaults = {name: one.default for name, one in method.model_fields.items()}
        own = {
            key: value
            for key, value in reward.items()
            if key != "type" and value is not None and defaults.get(key) != value
        }
        found.append({"type": reward["type"], "knobs": json.dumps(own) if own else ""})
    return found
