"""Models that end in scores: which there are, and whether a name that a reward gives is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, External, Run, State
from orchestrator.selectors.externals import external_named
from orchestrator.selectors.inputs import checkpoint_named
from orchestrator.selectors.removals import is_being_deleted
from trainer import registry
from trainer.named_models import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 60
_LEAVES_ONE = (State.FINISHED, State.STOPPED, State.RUNNING, State.STARTING, State.QUEUED)


def score_objectives() -> list[str]:
    """Tags of the objectives that train a reward model."""
    methods = registry.family("objectives")
    return [tag for tag, one in methods.items() if "score-head" in getattr(one, "needs", ())]


def is_scoring(spec: Mapping[str, Any]) -> bool:
    """Whether what a run of this spec saves ends in scores."""
    objective = spec.get("objective")
    kind = objective.get("type") if isinstance(objective, dict) else None
    return spec.get("kind", "train") == "train" and kind in score_objectives()


def reward_model_problem(name: str) -> str:
    """Why a reward cannot score with what `run:ID`, `checkpoint:ID` or `external:ID` stands for; "" when it can,
    as far as is known here, and for any other name."""
    wanted = f"train one with {' or '.join(score_objectives())}"
    if name.startswith((RUN_PREFIX, CHECKPOINT_PREFIX)):
        run = _run_of(name)
        if run is None or is_being_deleted(run.pk):
            return f"there is no {name}, or its files are gone"
        if not is_scoring(run.spec):
            return f"{name} ({run.name or run.pk}) is no reward model: it writes, and does not score; {wanted}"
    if name.startswith(EXTERNAL_PREFIX):
        external = external_named(name)
        if external is None:
            return f"there is no {name} here"
        if external.read is not None and not external.facts.get("outputs"):
            return f"{name} ({external.name}) is no reward model: its config names no sequence classifier"
    return ""


def _run_of(name: str) -> Run | None:
    """The run whose weights `run:ID` or `checkpoint:ID` stands for, if they are or will be there."""
    if name.startswith(RUN_PREFIX):
        return Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
    found = checkpoint_named(name)
    return found.run if found else None


def reward_models_chosen_from() -> dict[str, list[tuple[str, str]]]:
    """Reward models by heading: value and label of each, newest first."""
    trained = Run.objects.filter(kind="train", spec__objective__type__in=score_objectives())
    runs = trained.filter(state__in=_LEAVES_ONE).order_by("-created")[:MOST]
    saved = Checkpoint.objects.filter(deleted=None, run__in=trained).select_related("run")
    known = External.objects.exclude(facts__outputs=[]).filter(facts__has_key="outputs")
    found = {
        "A run's final checkpoint": [
            (f"{RUN_PREFIX}{run.pk}", f"{run.name} · {run.state}, step {run.step}") for run in runs
        ],
        "A checkpoint": [
            (f"{CHECKPOINT_PREFIX}{one.pk}", f"{one.run.name} · step {one.step}")
            for one in saved.order_by("-created")[:MOST]
        ],
        "External": [
            (f"{EXTERNAL_PREFIX}{one.pk}", f"{one.name} · {one.source}")
            for one in known.order_by("-created")[:MOST]
        ],
    }
    return {heading: choices for heading, choices in found.items() if choices}
